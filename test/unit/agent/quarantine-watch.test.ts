import { expect, test } from "vitest";
import { QuarantineWatch } from "../../../agent/wiring/quarantine-watch.ts";

function rig() {
  const cases: { number: number; topic: string; reason: string; scope: "topic" | "message" }[] = [];
  const raised = new Map<string, string>();
  let raises = 0;
  const watch = new QuarantineWatch({
    outbox: { quarantine: { cases } },
    alarms: {
      raise: (name, { cause }) => {
        raises++;
        if (!raised.has(name)) raised.set(name, cause);
      },
      clear: (name) => raised.delete(name),
      list: () =>
        [...raised].map(([alarm, cause]) => ({ alarm, cause, severity: "warning", at: 0 })),
    },
  });
  const add = (topic: string, scope: "topic" | "message" = "topic"): void => {
    cases.push({ number: cases.length + 1, topic, reason: "the service closed", scope });
  };
  return { cases, raised, watch, add, raises: () => raises };
}

test("one alarm about all and one for each topic, until they are out again", () => {
  const { cases, raised, watch, add } = rig();
  watch.look();
  expect([...raised]).toEqual([]);
  add("GW_OTHER/T 1");
  add("GW_OTHER/T 1", "message");
  add("b", "message");
  watch.look();
  expect([...raised]).toEqual([
    ["outbox.quarantine", "Messages to GW_OTHER/T 1 set aside: the service closed."],
    ["outbox.quarantine.gw_other_t_1", "Messages to GW_OTHER/T 1 set aside: the service closed."],
    ["outbox.quarantine.b", "A message to b set aside: the service closed."],
  ]);
  cases.splice(0, 2);
  watch.look();
  expect([...raised.keys()]).toEqual(["outbox.quarantine", "outbox.quarantine.b"]);
  cases.length = 0;
  watch.look();
  expect([...raised.keys()]).toEqual([]);
});

test("alarms of an earlier process are cleared; those of others stay", () => {
  const { raised, watch } = rig();
  raised.set("outbox.quarantine.old", "").set("outbox.quarantines", "").set("outbox.x", "");
  watch.look();
  expect([...raised.keys()]).toEqual(["outbox.quarantines", "outbox.x"]);
});

test("a thousand topics are no more than eleven alarms", () => {
  const { raised, watch, add } = rig();
  for (let n = 0; n < 1_000; n++) add(`t/${n}`);
  watch.look();
  expect(raised.size).toBe(11);
});
