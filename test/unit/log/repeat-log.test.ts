import { expect, test } from "vitest";
import type { LogFields, Logger } from "../../../agent/core/log.ts";
import { silentLog } from "../../../agent/core/log.ts";
import { RepeatLog } from "../../../agent/log/log.ts";
import { FakeClock } from "../../support/fake-clock.ts";

function start() {
  const lines: [string, LogFields | undefined][] = [];
  const log: Logger = { ...silentLog, warn: (event, fields) => lines.push([event, fields]) };
  const clock = new FakeClock();
  return { lines, clock, repeat: new RepeatLog({}, { log, clock }) };
}

test("an unchanged state is logged once a minute with what was left out", async () => {
  const { lines, clock, repeat } = start();
  for (let second = 0; second < 150; second++) {
    repeat.report("warn", "refused", "code 5", { second });
    await clock.advance(1_000);
  }
  expect(lines).toEqual([
    ["refused", { second: 0, repeated: undefined }],
    ["refused", { second: 60, repeated: 59 }],
    ["refused", { second: 120, repeated: 59 }],
  ]);
});

test("a change and a new beginning are logged at once, other events do not matter", () => {
  const { lines, repeat } = start();
  repeat.report("warn", "refused", "code 5");
  repeat.report("warn", "lost", "network");
  repeat.report("warn", "refused", "code 5");
  repeat.report("warn", "refused", "code 4");
  repeat.clear("lost");
  repeat.report("warn", "lost", "network");
  expect(lines.map(([event, fields]) => [event, fields?.["repeated"]])).toEqual([
    ...[
      ["refused", undefined],
      ["lost", undefined],
      ["refused", 1],
      ["lost", undefined],
    ],
  ]);
});

test("it remembers a bounded number of events", () => {
  const { lines, repeat } = start();
  for (let i = 0; i < 10_000; i++) repeat.report("warn", `event ${i}`, "");
  expect(lines).toHaveLength(10_000);
  repeat.report("warn", "event 9999", "");
  expect(lines).toHaveLength(10_000);
  repeat.report("warn", "event 0", "");
  expect(lines).toHaveLength(10_001);
});
