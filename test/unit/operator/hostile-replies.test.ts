/** What others may send to a commander: nothing of it ends a run, and none of it stays unacknowledged. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { encodeReply } from "../../../agent/protocol/reply.ts";
import { type FakeLink, makeRig, never, request, runsOf } from "./rig.ts";

/** Far more fake time than any of these takes, however slow the disk is. */
const wait = { timeoutMs: 600_000 };
const utf8 = (text: string): Buffer => Buffer.from(text, "utf8");

const hostile: readonly [string, (id: string) => Uint8Array | string][] = [
  ["nothing", () => ""],
  ["no JSON", () => "hello"],
  ["no UTF-8", () => Buffer.from([0xff, 0xfe, 0x00])],
  ["a list", (id) => JSON.stringify([id])],
  ["null", () => "null"],
  ["depth", () => "[".repeat(50_000)],
  ["size", (id) => JSON.stringify({ id, x: "x".repeat(70_000) })],
  ["a status nobody knows", (id) => raw(id, { status: "done", final: true })],
  ["final that does not fit", (id) => raw(id, { status: "running", final: true })],
  ["another version", (id) => raw(id, { v: 2 })],
  ["__proto__", (id) => raw(id, {}).replace('"v":1', '"v":1,"__proto__":{"final":true}')],
  ["another device", (id) => raw(id, { device: "GID_demo@@@gw-02" })],
  ["a device of another group", (id) => raw(id, { device: "GID_evil@@@gw-01" })],
  ["a run nobody made", () => raw("01ARZ3NDEKTSV4RRFFQ69G5FAV", {})],
  ["a path as id", () => raw("..", {})],
  ["an id with a slash", () => raw("../../etc/passwd", {})],
  ["a piece of a reply", (id) => raw(id, { part: { n: 1, of: 3 } })],
];

test.each(hostile)("%s does not end a run", async (_, make) => {
  const rig = await makeRig();
  let link: FakeLink | undefined;
  rig.prepare = (made) => {
    link = made;
    made.onPublish = ({ id }) => {
      made.receive(make(id));
      made.reply({ id, result: "the real one" });
    };
  };
  const { run } = await rig.finish(rig.commander.send(request(), wait, never));
  expect(run.final?.reply).toMatchObject({ status: "succeeded", result: "the real one" });
  expect(run.contradictions).toEqual([]);
  expect(link?.accepted, "acknowledged, or it comes again for ever").toBe(2);
});

test("a reply on another topic does not end a run", async () => {
  const rig = await makeRig();
  rig.prepare = (link) => {
    link.onPublish = ({ id }) => {
      const forged = encodeReply({
        id,
        device: "GID_demo@@@gw-01",
        at: 1,
        status: "failed",
        error: { code: "forged", message: "" },
      });
      link.receive(forged, "GW_DOWN/p2p/GID_demo@@@console-2");
      link.receive(forged, `OTHER/p2p/${link.clientId}`);
      link.reply({ id });
    };
  };
  const { run } = await rig.finish(rig.commander.send(request(), wait, never));
  expect(run.final?.reply.status).toBe("succeeded");
  expect(run.contradictionCount).toBe(0);
});

test("random bytes end nothing and crash nothing", async () => {
  const rig = await makeRig();
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 50 }),
      async (all) => {
        let link: FakeLink | undefined;
        rig.prepare = (made) => {
          link = made;
          made.onPublish = ({ id }) => {
            for (const bytes of all) made.receive(bytes);
            made.reply({ id });
          };
        };
        const { run } = await rig.finish(rig.commander.send(request(), wait, never));
        expect(run.final?.reply.status).toBe("succeeded");
        expect(link?.accepted).toBe(all.length + 1);
      },
    ),
    { numRuns: 20 },
  );
});

test("the first final reply stands; others are repetitions or contradictions, counted and bounded", async () => {
  const rig = await makeRig();
  rig.prepare = (link) => {
    link.onPublish = ({ id }) => {
      link.reply({ id, result: 1 });
      link.reply({ id, result: 1 }); // The device repeats itself: nothing new.
      for (let i = 2; i < 12; i++) link.reply({ id, result: i });
      link.reply({ id, status: "running" }); // Late: the run has ended.
      link.reply({ id, status: "busy", retryAfterMs: 1 });
    };
  };
  const sent = await rig.finish(rig.commander.send(request({ wait: false }), wait, never));
  // Whatever was not taken before the goodbye comes again, as the service does it.
  const outcome = await collect(rig, sent.run.id);
  expect(outcome.final?.reply.result).toBe(1);
  expect(outcome.contradictionCount).toBe(10);
  expect(outcome.contradictions.map(({ reply }) => reply.result)).toEqual([2, 3, 4, 5]);
  expect(outcome.latest).toBeUndefined();
});

test("a spoilt file of another run does not keep answers from being recorded", async () => {
  const rig = await makeRig();
  const { writeFile } = await import("node:fs/promises");
  const spoilt = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
  rig.prepare = (link) => {
    link.onPublish = async ({ id }) => {
      await writeFile(`${rig.dir}/runs/${spoilt}.json`, utf8("{"));
      link.receive(raw(spoilt, {}));
      link.reply({ id });
    };
  };
  const { run } = await rig.finish(rig.commander.send(request(), wait, never));
  expect(run.final).toBeDefined();
});

/** A second call in the same slot takes all that the first one left in the session. */
async function collect(rig: Awaited<ReturnType<typeof makeRig>>, id: string) {
  const before = rig.links[0];
  rig.prepare = (link) => {
    for (let left = before?.inbound.poll(); left; left = before?.inbound.poll()) {
      link.inbound.push(left);
    }
    link.onPublish = (published) => link.reply({ id: published.id });
  };
  await rig.finish(rig.commander.send(request(), wait, never));
  const run = await runsOf(rig).get(id);
  if (!run) throw new Error("the run is gone");
  return run;
}

function raw(id: string, members: object): string {
  return JSON.stringify({
    v: 1,
    id,
    device: "GID_demo@@@gw-01",
    at: 1,
    status: "failed",
    final: true,
    error: { code: "forged", message: "forged" },
    ...members,
  });
}
