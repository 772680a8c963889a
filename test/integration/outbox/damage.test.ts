import { join } from "node:path";
import { expect, test } from "vitest";
import { silentLog } from "../../../agent/core/log.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { DatabaseStore, openLevel } from "../../../agent/store/store.ts";
import { SeededRandom } from "../../support/seeded-random.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { lane, never, numbers, startRig, texts } from "../../unit/outbox/rig.ts";

const lanes = { alarm: lane({ priority: 1 }), telemetry: lane() };

async function openStore(dir: string): Promise<DatabaseStore> {
  const deps = { openDatabase: openLevel, random: new SystemRandom(), log: silentLog };
  const store = new DatabaseStore({ dir }, deps);
  await store.start();
  return store;
}

/** Flips one bit of the value under the database's back, as a worn card does. */
async function flip(dir: string, pick: (keys: string[]) => string[], random: SeededRandom) {
  const raw = await openLevel(join(dir, "db"), { createIfMissing: false });
  const range = { gt: "outbox/", lte: "outbox/\x7f", limit: 1_000, reverse: false };
  const all = await Array.fromAsync(raw.range(range));
  const values = new Map(all);
  for (const key of pick(all.map(([name]) => name))) {
    const value = Buffer.from(values.get(key) as Uint8Array);
    const bit = random.int(value.length * 8);
    value[bit >> 3] = (value[bit >> 3] as number) ^ (1 << (bit & 7));
    await raw.batch([{ key, value }], { sync: true });
  }
  await raw.close();
}

/** All that the lanes have; waits for the disk. */
async function drain(outbox: Awaited<ReturnType<typeof startRig>>["outbox"]): Promise<string[]> {
  const all: string[] = [];
  while (Object.values(outbox.stats().lanes).some(({ messages }) => messages > 0)) {
    const batch = await outbox.take({ messages: 1_000, bytes: 1e9 }, never);
    all.push(...texts(batch));
    outbox.settle(batch.ids);
  }
  return all;
}

async function fill(dir: string): Promise<void> {
  const store = await openStore(dir);
  const { put, outbox } = await startRig({ lanes, store });
  await Promise.all(numbers(1, 320).map((n) => put(n, { lane: "telemetry" })));
  await Promise.all(numbers(1_001, 1_064).map((n) => put(n, { lane: "alarm" })));
  await outbox.stop(never);
  await store.stop();
}

test.each([1, 2, 3])("a flipped bit costs its record and nothing else: seed %i", async (seed) => {
  const dir = await tempDir();
  await fill(dir);
  // The first record of the first lane, and one in the middle of the second.
  await flip(dir, (keys) => [keys[0] as string, keys[6] as string], new SeededRandom(seed));
  const store = await openStore(dir);
  const { outbox, put, statsOf } = await startRig({ lanes, store, seed: 2 });
  expect(store.damaged).toBeGreaterThanOrEqual(2);
  const left = await drain(outbox);
  const sent = [...numbers(1_033, 1_064), ...numbers(1, 128), ...numbers(161, 320)];
  expect(left).toEqual(sent);
  expect(statsOf()).toMatchObject({ messages: 0, bytes: 0 });
  await put("after");
  expect(await drain(outbox)).toEqual(["after"]);
  await outbox.stop(never);
  await store.stop();
});

test("a record that is damaged after the start is counted as dropped", async () => {
  const dir = await tempDir();
  await fill(dir);
  const store = await openStore(dir);
  const { outbox, statsOf } = await startRig({ lanes, store, seed: 2 });
  const raw = store.table<Uint8Array>("outbox", { encode: (v) => v, decode: (v) => v });
  const [key] = (await Array.fromAsync(raw.range({ gt: "telemetry/", limit: 1 })))[0] ?? [""];
  await store.commit([raw.del(key)], { sync: true });
  expect((await drain(outbox)).length).toBe(320 + 64 - 32);
  expect(statsOf()).toMatchObject({ messages: 0, bytes: 0, dropped: { damage: 32 } });
  await outbox.stop(never);
  await store.stop();
});
