/** I2: what is staged and what is put share streams, and keep their order over a restart. */
import { expect, test } from "vitest";
import { lane, startRig } from "./rig.ts";

const lanes = { reply: lane({ priority: 1 }) };

async function stagingRig() {
  const rig = await startRig({ lanes });
  rig.outbox.setOnline(true);
  const put = (text: string) => rig.put(text, { lane: "reply" });
  const stage = (text: string) =>
    rig.outbox.stage({ topic: "up/t", payload: Buffer.from(text), lane: "reply" });
  const commit = async (staged: ReturnType<typeof stage>): Promise<void> => {
    await rig.store.commit(staged.writes, { sync: true });
    staged.committed();
  };
  const restart = (seed = 2) => startRig({ lanes, store: rig.store.afterKill(), seed });
  return { ...rig, put, stage, commit, restart };
}

test("a put that waits for the disk while a staged message overtakes it comes first", async () => {
  const { put, stage, commit, clock, restart } = await stagingRig();
  const progress = put("running");
  await commit(stage("succeeded"));
  await clock.advance(60);
  await progress;
  expect(await (await restart()).drain()).toEqual(["running", "succeeded"]);
});

test("so it is with many of both, in records of many messages", async () => {
  const { put, stage, commit, clock, restart } = await stagingRig();
  const puts: Promise<unknown>[] = [];
  const expected: string[] = [];
  for (let i = 0; i < 300; i++) {
    if (i % 7 === 3) await commit(stage(String(i)));
    else puts.push(put(String(i)));
    if (i % 50 === 49) await clock.advance(60);
    expected.push(String(i));
  }
  await clock.advance(60);
  await Promise.all(puts);
  expect(await (await restart()).drain()).toEqual(expected);
});

test("what is put after a staged message took its place stays behind it", async () => {
  const { put, stage, commit, clock, restart } = await stagingRig();
  await commit(stage("first"));
  const after = put("second");
  await clock.advance(60);
  await after;
  expect(await (await restart()).drain()).toEqual(["first", "second"]);
});

test("messages of two processes are not mixed, although their numbers begin anew", async () => {
  const { put, clock, store } = await stagingRig();
  const old = Promise.all(["a1", "a2", "a3"].map(put));
  await clock.advance(60);
  await old;
  const second = await startRig({ lanes, store: store.afterKill(), seed: 2 });
  await second.put("b1", { lane: "reply" });
  const third = await startRig({ lanes, store: second.store.afterKill(), seed: 3 });
  expect(await third.drain()).toEqual(["a1", "a2", "a3", "b1"]);
});
