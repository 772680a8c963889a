/** Reading a backlog back: neighbours in one go, and what is damaged or missing apart from them. */
import { describe, expect, test } from "vitest";
import { HoldfastError } from "../../../agent/core/errors.ts";
import type { Store } from "../../../agent/store/store.ts";
import type { MemoryStore } from "../../support/memory-store.ts";
import { lane, numbers, startRig, texts as textsOf } from "./rig.ts";

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

describe("a record of which only the first messages left memory", () => {
  /** Ten messages of 1.5 KB to a record; the tail that memory keeps ends somewhere inside of one. */
  async function spilling() {
    const rig = await startRig({ persistDelayMs: 0 });
    const expected: string[] = [];
    const putRecord = async (messages: number): Promise<void> => {
      const texts = Array.from({ length: messages }, (_, n) =>
        `${expected.length + n} `.padEnd(1_500, "."),
      );
      expected.push(...texts);
      const accepted = texts.map((text) => rig.put(text));
      await rig.clock.advance(0);
      await Promise.all(accepted);
    };
    for (let i = 0; i < 37; i++) await putRecord(10);
    return { ...rig, expected, putRecord };
  }

  const cases = (["given", "not given"] as const).flatMap((how) =>
    [1, 4, 7, 10, 13, 25].map((meanwhile) => ({ how, meanwhile })),
  );
  test.each(cases)(
    "is $how by the disk while $meanwhile more leave memory: each message comes once",
    async ({ how, meanwhile }) => {
      const { putRecord, take, outbox, drain, store, clock, expected, statsOf } = await spilling();
      const gate = Promise.withResolvers<void>();
      const held = async (): Promise<void> => {
        await gate.promise;
        if (how === "not given") throw new HoldfastError("store_unreadable");
      };
      store.beforeRange = held;
      store.afterRead = held;
      const first = take(5);
      await clock.advance(0);
      await putRecord(meanwhile);
      gate.resolve();
      const batch = await first;
      store.beforeRange = async () => undefined;
      store.afterRead = async () => undefined;
      for (let i = 0; i < 20; i++) await putRecord(10);
      await clock.advance(2_000);
      outbox.settle(batch.ids);
      expect([...textsOf(batch), ...(await drain())]).toEqual(expected);
      expect(statsOf()).toMatchObject({ messages: 0, bytes: 0, dropped: {} });
    },
  );
});

describe("a start over a store whose last record number is proven", () => {
  /** What a clean stop leaves: numbers 1 to 40 in lanes a and b, all of them delivered but `left`. */
  async function stopped(left: readonly number[]) {
    const rig = await startRig({ persistDelayMs: 0, lanes: { a: lane(), b: lane() } });
    for (let number = 1; number <= 40; number++) {
      const accepted = rig.put(String(number), { lane: number % 4 === 0 ? "b" : "a" });
      await rig.clock.advance(0);
      await accepted;
    }
    const batch = await rig.take(40);
    const sent = textsOf(batch).map(Number);
    const settled = batch.ids.flatMap(({ epoch, from, to }) =>
      Array.from({ length: to - from + 1 }, (_, i) => ({ epoch, seq: from + i })),
    );
    expect(sent.toSorted((x, y) => x - y)).toEqual(numbers(1, 40).map(Number));
    rig.outbox.settle(
      settled
        .filter(({ seq }) => !left.includes(seq))
        .map(({ epoch, seq }) => ({ epoch, from: seq, to: seq })),
    );
    await rig.outbox.stop(new AbortController().signal);
    return rig.store;
  }

  /** Also tells how many values were read from records. */
  async function startedOver(store: MemoryStore, names: readonly string[]) {
    const proven: Store = {
      table: (name, codec) => store.table(name, codec),
      commit: (writes, options) => store.commit(writes, options),
      noteNumber: (number) => store.noteNumber(number),
      ...{ lastNumber: 40, lastNumberProven: true },
    };
    const lanes = Object.fromEntries(names.map((name) => [name, lane()]));
    return startRig({ store: proven, lanes, seed: 2 });
  }

  test("finds a few records without stepping through the lanes", async () => {
    const store = await stopped([7, 12, 30]);
    let ranges = 0;
    store.beforeRange = async () => {
      ranges++;
    };
    const rig = await startedOver(store, ["a", "b"]);
    // The ledger, the losses and the quarantine.
    expect(ranges).toBe(3);
    expect(await rig.drain()).toEqual(["7", "30", "12"]);
  });

  test("finds many, in their order", async () => {
    const left = Array.from({ length: 36 }, (_, i) => i + 3);
    const rig = await startedOver(await stopped(left), ["a", "b"]);
    const all = (await rig.drain()).map(Number);
    expect(all.filter((n) => n % 4 !== 0)).toEqual(left.filter((n) => n % 4 !== 0));
    expect(all.filter((n) => n % 4 === 0)).toEqual(left.filter((n) => n % 4 === 0));
  });

  test.each([[[7, 12]], [Array.from({ length: 38 }, (_, i) => i + 1)]])(
    "finds those of a lane that is named no more among %j",
    async (left) => {
      const rig = await startedOver(await stopped(left), ["b", "c"]);
      expect((await rig.drain()).map(Number).toSorted((x, y) => x - y)).toEqual(left);
      for (const name of ["a", "b", "c"]) expect(rig.statsOf(name).dropped).toEqual({});
    },
  );

  test.each(["damage", "lose"] as const)("tells one record that is gone by %s", async (how) => {
    const store = await stopped([7, 12]);
    store[how]("outbox", (key) => key.endsWith("/000000000007"));
    const { outbox, drain, statsOf } = await startedOver(store, ["a", "b"]);
    expect(await drain()).toEqual(["12"]);
    expect(statsOf("a").dropped).toEqual(how === "damage" ? { damage: 1 } : {});
    await outbox.stop(new AbortController().signal);
    const again = await startedOver(store, ["a", "b"]);
    expect(await again.drain()).toEqual([]);
    expect(again.statsOf("a").dropped).toEqual({});
  });
});
