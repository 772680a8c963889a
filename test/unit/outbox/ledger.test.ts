import fc from "fast-check";
import { expect, test } from "vitest";
import { AssertionFailure } from "../../../agent/core/assert.ts";
import { Ledger } from "../../../agent/outbox/ledger.ts";
import { heldMemory } from "../../support/held-memory.ts";
import { MemoryStore } from "../../support/memory-store.ts";

async function reloaded(store: MemoryStore): Promise<Ledger> {
  const ledger = new Ledger(store);
  await ledger.load();
  return ledger;
}

function expectSame(ledger: Ledger, gone: Set<number>, masks: Map<number, number>, most: number) {
  const wrong: number[] = [];
  for (let n = 1; n <= most; n++) if (ledger.isGone(n) !== gone.has(n)) wrong.push(n);
  expect(wrong).toEqual([]);
  for (const [n, mask] of masks) expect(ledger.mask(n) >>> 0).toBe(mask >>> 0);
}

/** The whole blocks of 1,024 at the start that are gone. */
function throughOf(gone: Set<number>): number {
  let n = 0;
  while (gone.has(n + 1)) n++;
  return n - (n % 1_024);
}

type Action =
  | { readonly do: "go"; readonly from: number; readonly count: number; readonly step: number }
  | { readonly do: "mask"; readonly at: number; readonly mask: number }
  | { readonly do: "commit" }
  | { readonly do: "reload" };

const MOST = 5_000;
const at = fc.integer({ min: 1, max: MOST });
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("go" as const),
      from: fc.oneof(fc.constant(1), fc.constantFrom(1_024, 1_025, 2_048, 2_049), at),
      count: fc.integer({ min: 1, max: 1_500 }),
      step: fc.constantFrom(1, 1, 2, 3),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("mask" as const),
      at,
      mask: fc.oneof(fc.constantFrom(1, -1, 1 << 31), fc.integer()),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ do: "commit" as const }) },
  { weight: 1, arbitrary: fc.constant({ do: "reload" as const }) },
);

test("against a set, over commits and restarts", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 25 }), async (actions) => {
      const store = new MemoryStore();
      let ledger = await reloaded(store);
      const gone = new Set<number>();
      const masks = new Map<number, number>();
      const commit = (): Promise<void> => store.commit(ledger.takeWrites(), { sync: true });
      for (const one of actions) {
        if (one.do === "go") {
          for (let i = 0; i < one.count; i++) {
            const n = one.from + i * one.step;
            if (n > MOST || gone.has(n)) continue;
            ledger.markRecord(n);
            gone.add(n);
            masks.set(n, 0);
          }
        } else if (one.do === "mask") {
          if (gone.has(one.at)) continue;
          ledger.markMessages(one.at, one.mask);
          masks.set(one.at, one.mask);
        } else {
          await commit();
          expect(ledger.through).toBe(throughOf(gone));
          expect(ledger.takeWrites()).toEqual([]);
          if (one.do === "reload") ledger = await reloaded(store);
        }
        expectSame(ledger, gone, masks, MOST);
      }
      await commit();
      const last = await reloaded(store);
      expectSame(last, gone, masks, MOST);
      expect(last.through).toBe(throughOf(gone));
    }),
    { numRuns: 60 },
  );
});

test("what is behind the head costs nothing", async () => {
  const store = new MemoryStore();
  const ledger = await reloaded(store);
  for (let n = 1; n <= 100 * 1_024; n++) {
    ledger.markMessages(n, 3);
    ledger.markRecord(n);
    if (n % 500 === 0) await store.commit(ledger.takeWrites(), { sync: true });
  }
  await store.commit(ledger.takeWrites(), { sync: true });
  const raw = store.table<Uint8Array>("ledger", { encode: (v) => v, decode: (v) => v });
  const keys = (await Array.fromAsync(raw.range({ limit: 1_000 }))).map(([key]) => key);
  expect(keys).toEqual(["through"]);
});

test("a record that stays for months costs no memory for those that come and go", async () => {
  /** As the committer does: what the writes were is forgotten once they are on disk. */
  const goneButOne = async (last: number): Promise<Ledger> => {
    const ledger = await reloaded(new MemoryStore());
    for (let n = 2; n <= last; n++) {
      ledger.markRecord(n);
      if (n % 4_096 === 0) ledger.takeWrites();
    }
    ledger.takeWrites();
    return ledger;
  };
  await goneButOne(100_000); // What is compiled and kept for its own sake is there now.
  const before = heldMemory();
  const last = 4_000_000;
  const ledger = await goneButOne(last);
  // Its 3,900 blocks would be more than a megabyte.
  expect(heldMemory() - before).toBeLessThan(300_000);
  expect([1, 2, last - 1, last, last + 1].map((n) => ledger.isGone(n))).toEqual([
    ...[false, true, true, true, false],
  ]);
  expect([ledger.through, ledger.highest]).toEqual([0, last]);
});

test("when it goes at last, the head follows in commits of bounded size", async () => {
  const store = new MemoryStore();
  const ledger = await reloaded(store);
  const count = 3_000 * 1_024;
  for (let n = 2; n <= count; n++) ledger.markRecord(n);
  await store.commit(ledger.takeWrites(), { sync: true });
  ledger.markRecord(1);
  const throughs: number[] = [];
  for (let i = 0; i < 4; i++) {
    const writes = ledger.takeWrites();
    expect(writes.length).toBeLessThanOrEqual(1_100);
    await store.commit(writes, { sync: true });
    // A restart in between finds the same.
    const after = await reloaded(store);
    expect([after.through, after.isGone(1), after.isGone(count)]).toEqual([
      ...[ledger.through, true, true],
    ]);
    throughs.push(ledger.through / 1_024);
  }
  expect(throughs).toEqual([1_024, 2_048, 3_000, 3_000]);
});

test("writes that are lost before a commit leave the ledger as it was on disk", async () => {
  const store = new MemoryStore();
  const ledger = await reloaded(store);
  ledger.markRecord(1);
  await store.commit(ledger.takeWrites(), { sync: true });
  ledger.markRecord(2);
  ledger.takeWrites();
  const after = await reloaded(store);
  expect([after.isGone(1), after.isGone(2)]).toEqual([true, false]);
});

test("a record that goes twice is a broken assumption", async () => {
  const ledger = await reloaded(new MemoryStore());
  ledger.markRecord(1);
  expect(() => ledger.markRecord(1)).toThrow(AssertionFailure);
});
