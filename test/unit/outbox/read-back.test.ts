/** Reading a backlog back: neighbours in one go, and what is damaged or missing apart from them. */
import { describe, expect, test } from "vitest";
import { lane, startRig } from "./rig.ts";

/** Every ninth message goes to lane b, so that its records lie between those of lane a. */
async function backlog(count: number) {
  const rig = await startRig({ persistDelayMs: 0, lanes: { a: lane(), b: lane() } });
  const expected: Record<"a" | "b", string[]> = { a: [], b: [] };
  for (let i = 0; i < count; i++) {
    const name = i % 9 === 8 ? "b" : "a";
    // Large ones, so that they leave memory.
    const text = `${i} ${"x".repeat(30_000)}`;
    expected[name].push(text);
    const accepted = rig.put(text, { lane: name });
    await rig.clock.advance(0);
    await accepted;
  }
  return { ...rig, expected };
}

describe("a backlog that is read back", () => {
  test("keeps the order of each lane, though another's records lie between", async () => {
    const { drain, expected, store } = await backlog(100);
    const before = store.reads;
    const all = await drain();
    expect(all.filter((text) => expected.a.includes(text))).toEqual(expected.a);
    expect(all.filter((text) => expected.b.includes(text))).toEqual(expected.b);
    expect(all.length).toBe(100);
    expect(store.reads - before).toBeGreaterThan(50);
  });

  test.each(["damage", "lose"] as const)("goes on behind a record after %s", async (how) => {
    const { drain, expected, store, statsOf } = await backlog(60);
    store[how]("outbox", (key) => key.endsWith("000000000004"));
    const all = await drain();
    expect(all.filter((text) => expected.a.includes(text))).toEqual(expected.a.toSpliced(3, 1));
    expect(all.length).toBe(59);
    expect(statsOf("a").dropped).toEqual({ damage: 1 });
  });
});

test("lanes are listed once, also those whose names begin alike or that nobody named", async () => {
  const names = ["a", "a-b", "a0", "b"];
  const lanes = Object.fromEntries(names.map((name) => [name, lane()]));
  const { put, clock, outbox, store } = await startRig({ persistDelayMs: 0, lanes });
  for (const name of names) {
    const accepted = put(name, { lane: name });
    await clock.advance(0);
    await accepted;
  }
  await outbox.stop(AbortSignal.abort());
  const named = Object.fromEntries(["b", "a", "a-b"].map((name) => [name, lane()]));
  const again = await startRig({ store: store.afterKill(), lanes: named, seed: 2 });
  expect((await again.drain()).toSorted()).toEqual(names);
  const counts = Object.entries(again.outbox.stats().lanes).map(([name, { dropped }]) => [
    name,
    dropped,
  ]);
  expect(counts.toSorted()).toEqual(names.map((name) => [name, {}]));
});
