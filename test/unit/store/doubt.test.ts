import { expect, test } from "vitest";
import { silentLog } from "../../../agent/core/log.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import {
  DatabaseStore,
  jsonCodec,
  type KeyValueOpener,
  openLevel,
} from "../../../agent/store/store.ts";
import { tempDir } from "../../support/temp-dir.ts";

const numbers = jsonCodec((value) => Number(value));

/**
 * A database whose next batch fails although it reaches the log: the process does not see it, the
 * next opening does.
 */
function doubtful() {
  const state = { fails: false, reads: true };
  const open: KeyValueOpener = async (directory, options) => {
    const database = await openLevel(directory, options);
    let unseen: Parameters<typeof database.batch>[0] | undefined;
    return {
      ...database,
      get: async (key) => {
        if (!state.reads) throw new Error("read failed");
        return database.get(key);
      },
      batch: async (operations, sync) => {
        if (unseen) throw new Error("write failed");
        if (!state.fails) return database.batch(operations, sync);
        unseen = operations;
        state.fails = false;
        throw new Error("sync failed");
      },
      close: async () => {
        if (unseen) await database.batch(unseen, { sync: true });
        await database.close();
      },
    };
  };
  return { state, open };
}

async function opened(dir: string, openDatabase: KeyValueOpener) {
  const deps = { openDatabase, random: new SystemRandom(), log: silentLog };
  const store = new DatabaseStore({ dir }, deps);
  await store.start();
  return store;
}

test("a batch that was refused is taken back when it turns out to be there", async () => {
  const { state, open } = doubtful();
  const store = await opened(await tempDir(), open);
  const table = store.table("a", numbers);
  await store.commit([table.put("kept", 1), table.put("gone", 2)], { sync: true });
  const given: number[] = [];
  const numbered = table.putNumbered((n) => {
    given.push(n);
    return { key: `n${n}`, value: n };
  });
  state.fails = true;
  const refused = store.commit([numbered, table.put("kept", 9), table.del("gone")], { sync: true });
  await expect(refused).rejects.toThrow("does not take writes");
  await store.commit([table.put("next", 3)], { sync: true });
  const all = async () => Object.fromEntries(await Array.fromAsync(table.range({ limit: 10 })));
  expect(await all()).toEqual({ kept: 1, gone: 2, next: 3 });
  await store.commit([numbered], { sync: true });
  expect(given).toEqual([1, 1]);
  await store.stop();
});

test("it is taken back at a stop, too", async () => {
  const dir = await tempDir();
  const { state, open } = doubtful();
  const store = await opened(dir, open);
  const table = store.table("a", numbers);
  state.fails = true;
  await store.commit([table.put("1", 1)], { sync: true }).catch(() => undefined);
  await store.stop();
  const again = await opened(dir, openLevel);
  expect(await again.table("a", numbers).get("1")).toBeUndefined();
  await again.stop();
});

test("while it cannot be read what was there before, the database is not opened anew", async () => {
  const { state, open } = doubtful();
  const store = await opened(await tempDir(), open);
  const table = store.table("a", numbers);
  state.fails = true;
  await store.commit([table.put("1", 1)], { sync: true }).catch(() => undefined);
  state.reads = false;
  const commit = () => store.commit([table.put("2", 2)], { sync: true });
  await expect(commit()).rejects.toThrow("does not take writes");
  state.reads = true;
  await commit();
  expect(await table.get("1")).toBeUndefined();
  expect(await table.get("2")).toBe(2);
  // A sector that is never read again does not keep the store closed for ever.
  state.fails = true;
  await store.commit([table.put("3", 3)], { sync: true }).catch(() => undefined);
  state.reads = false;
  let tries = 1;
  while (
    await commit().then(
      () => false,
      () => true,
    )
  )
    tries++;
  expect(tries).toBeLessThan(30);
  state.reads = true;
  expect(await table.get("2")).toBe(2);
  await store.stop();
});
