/** What the lanes say of themselves stays true over drops, restarts and other configurations. */
import { expect, test } from "vitest";
import { MemoryStore } from "../../support/memory-store.ts";
import { codeOf, lane, startRig } from "./rig.ts";

test("an empty lane has no bytes, also after records lost the part that was not in flight", async () => {
  const bounds = lane({ maxMessages: 1_000, maxBytes: 2e6, whenFull: "drop-oldest" });
  const rig = await startRig({ persistDelayMs: 1, lanes: { telemetry: bounds } });
  const puts: Promise<unknown>[] = [];
  const put = (text: string): void => {
    const work = rig.put(text);
    work.catch(() => undefined); // A full lane may refuse; here only the accounts matter.
    puts.push(work);
  };
  rig.outbox.setOnline(true);
  for (let i = 0; i < 8; i++) put("s");
  const inFlight = await rig.take(8);
  for (let i = 0; i < 24; i++) put("L".repeat(1_000));
  rig.outbox.setOnline(false);
  await rig.clock.advance(20);
  for (let i = 0; i < 1_700; i++) {
    put("M".repeat(1_000));
    if (i % 50 === 0) await rig.clock.advance(20);
  }
  await rig.clock.advance(50);
  await Promise.allSettled(puts);
  expect(rig.statsOf().dropped["full"]).toBeGreaterThan(500);
  rig.outbox.settle(inFlight.ids);
  await rig.drain();
  expect(rig.statsOf()).toMatchObject({ messages: 0, bytes: 0 });
});

test("a lane that the configuration no longer has is drained and takes nothing new", async () => {
  const store = new MemoryStore();
  const lanes = { telemetry: lane(), old: lane() };
  const first = await startRig({ store, persistDelayMs: 0, lanes });
  const kept = first.put("kept", { lane: "old" });
  await first.clock.advance(10);
  await kept;
  const second = await startRig({ store: store.afterKill(), seed: 2, persistDelayMs: 0 });
  expect(await codeOf(second.put("new", { lane: "old" }))).toBe("lane_unknown");
  expect(second.outbox.reserve("old", 100)).toBeUndefined();
  expect(await second.drain()).toEqual(["kept"]);
});

test("record numbers go on after those that are there, whatever became of the counter", async () => {
  const store = new MemoryStore();
  const first = await startRig({ store, persistDelayMs: 0 });
  for (const text of ["m1", "m2", "m3"]) {
    const put = first.put(text);
    await first.clock.advance(10);
    await put;
  }
  const survivor = store.afterKill({ lastRecordNumber: 0 });
  const second = await startRig({ store: survivor, seed: 2, persistDelayMs: 0 });
  const put = second.put("new");
  await second.clock.advance(10);
  await put;
  const third = await startRig({ store: survivor.afterKill(), seed: 3, persistDelayMs: 0 });
  expect(await third.drain()).toEqual(["m1", "m2", "m3", "new"]);
});

test("large staged messages leave memory once they are on disk", async () => {
  const rig = await startRig({ persistDelayMs: 0, lanes: { reply: lane() } });
  const payload = new Uint8Array(60_000);
  for (let i = 0; i < 40; i++) {
    const staged = rig.outbox.stage({ topic: "down/p2p/x", payload, lane: "reply" });
    await rig.store.commit(staged.writes, { sync: true });
    staged.committed();
  }
  // Reading them back is how the outbox shows that they were let go.
  const before = rig.store.reads;
  expect((await rig.drain()).length).toBe(40);
  expect(rig.store.reads - before).toBeGreaterThan(20);
});
