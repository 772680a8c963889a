import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { HoldfastError } from "../../../agent/core/errors.ts";
import { silentLog } from "../../../agent/core/log.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import {
  DatabaseStore,
  jsonCodec,
  type KeyValueOpener,
  openLevel,
} from "../../../agent/store/store.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";

const numbers = jsonCodec((value) => Number(value));
const deps = { openDatabase: openLevel, random: new SystemRandom(), log: silentLog };

function codeOf(error: unknown): string {
  return error instanceof HoldfastError ? error.code : String(error);
}

async function opened(dir: string, openDatabase: KeyValueOpener = openLevel) {
  const store = new DatabaseStore({ dir }, { ...deps, openDatabase });
  await store.start();
  return store;
}

/** A database whose writes fail while `broken` is set, as after ENOSPC or EIO. */
function breakable() {
  const state = { broken: false, opened: 0, batches: 0 };
  const open: KeyValueOpener = async (directory, options) => {
    if (state.broken) throw new Error("no space left");
    state.opened++;
    const database = await openLevel(directory, options);
    let poisoned = false;
    return {
      ...database,
      batch: async (operations, sync) => {
        state.batches++;
        poisoned ||= state.broken;
        if (poisoned) throw new Error("write failed");
        await database.batch(operations, sync);
      },
    };
  };
  return { state, open };
}

test("what was committed is there after a restart, table by table and in key order", async () => {
  const dir = await tempDir();
  const first = await opened(dir);
  const a = first.table("a", numbers);
  const b = first.table("b", numbers);
  await first.commit([a.put("2", 2), a.put("1", 1), b.put("1", 10), a.put("3", 3)], { sync: true });
  await first.commit([a.del("3")], { sync: true });
  await first.stop();

  const second = await opened(dir);
  const table = second.table("a", numbers);
  expect(await table.get("1")).toBe(1);
  expect(await table.get("3")).toBeUndefined();
  expect(await Array.fromAsync(table.range({ limit: 10 }))).toEqual([
    ["1", 1],
    ["2", 2],
  ]);
  expect(await Array.fromAsync(table.range({ gt: "1", limit: 10 }))).toEqual([["2", 2]]);
  expect(await Array.fromAsync(table.range({ limit: 1, reverse: true }))).toEqual([["2", 2]]);
  await second.stop();
});

test("waiting commits share one batch", async () => {
  const { state, open } = breakable();
  const store = await opened(await tempDir(), open);
  const table = store.table("a", numbers);
  await Promise.all(
    Array.from({ length: 500 }, (_, i) => store.commit([table.put(`${i}`, i)], { sync: true })),
  );
  expect(state.batches).toBeLessThanOrEqual(2);
  expect(await table.get("499")).toBe(499);
  await store.stop();
});

test("a changed value is never handed out", async () => {
  const dir = await tempDir();
  const store = await opened(dir);
  const table = store.table("a", numbers);
  await store.commit([table.put("1", 1), table.put("2", 2)], { sync: true });
  await store.stop();

  // Change the value below the store, as a flipped bit would.
  const raw = await openLevel(join(dir, "db"), { createIfMissing: false });
  const value = Buffer.from((await raw.get("a/1")) as Uint8Array);
  value[value.length - 1] = (value.at(-1) as number) ^ 1;
  await raw.batch([{ key: "a/1", value }], { sync: true });
  await raw.batch([{ key: "a/3", value: await raw.get("a/2") }], { sync: true });
  await raw.close();

  const again = await opened(dir);
  const reread = again.table("a", numbers);
  expect(await reread.get("1").catch(codeOf)).toBe("store_damaged");
  // A sound value under another key than its own is damage too.
  expect(await reread.get("3").catch(codeOf)).toBe("store_damaged");
  expect(await Array.fromAsync(reread.range({ limit: 10 }))).toEqual([["2", 2]]);
  expect(again.damaged).toBe(2);
  await again.stop();
});

test("record numbers are dense over what was committed, also across a failure and a restart", async () => {
  const dir = await tempDir();
  const { state, open } = breakable();
  const store = await opened(dir, open);
  const table = store.table("a", numbers);
  const given: number[] = [];
  const numbered = () =>
    table.putNumbered((n) => {
      given.push(n);
      return { key: String(n).padStart(5, "0"), value: n };
    });
  await store.commit([numbered(), numbered()], { sync: true });
  state.broken = true;
  expect(await store.commit([numbered()], { sync: true }).catch(codeOf)).toBe("store_not_writable");
  expect(store.state).toBe("failed");
  state.broken = false;
  await store.commit([numbered()], { sync: true });
  expect(store.state).toBe("open");
  expect(given).toEqual([1, 2, 3, 3]);
  await store.stop();

  const again = await opened(dir);
  expect(again.lastNumber).toBe(3);
  expect((await Array.fromAsync(again.table("a", numbers).range({ limit: 9 }))).length).toBe(3);
  await again.stop();
});

test("a batch that failed and was written after all keeps its record numbers", async () => {
  let lies = false;
  const open: KeyValueOpener = async (directory, options) => {
    const database = await openLevel(directory, options);
    return {
      ...database,
      batch: async (operations, sync) => {
        await database.batch(operations, sync);
        if (lies) throw new Error("the sync failed");
      },
    };
  };
  const store = await opened(await tempDir(), open);
  const table = store.table("a", numbers);
  const given: number[] = [];
  const numbered = () =>
    table.putNumbered((n) => {
      given.push(n);
      return { key: String(n).padStart(5, "0"), value: n };
    });
  await store.commit([numbered()], { sync: true });
  lies = true;
  expect(await store.commit([numbered()], { sync: true }).catch(codeOf)).toBe("store_not_writable");
  lies = false;
  await store.commit([numbered()], { sync: true });
  expect(given).toEqual([1, 2, 3]);
  await store.stop();
});

test("after a failed write the database is opened again, and nothing needs a person", async () => {
  const { state, open } = breakable();
  const store = await opened(await tempDir(), open);
  const table = store.table("a", numbers);
  state.broken = true;
  for (let i = 0; i < 3; i++) {
    expect(await store.commit([table.put("1", 1)], { sync: true }).catch(codeOf)).toBe(
      "store_not_writable",
    );
  }
  state.broken = false;
  await store.commit([table.put("1", 2)], { sync: true });
  expect(await table.get("1")).toBe(2);
  expect(state.opened).toBe(2);
  await store.stop();
});

test("while the disk takes nothing the database stays open for reading", async () => {
  const { state, open } = breakable();
  let refuses = true;
  const probe = async (): Promise<void> => {
    if (refuses) throw new Error("no space left");
  };
  const store = new DatabaseStore({ dir: await tempDir() }, { ...deps, openDatabase: open, probe });
  await store.start();
  const table = store.table("a", numbers);
  await store.commit([table.put("1", 1)], { sync: true });
  state.broken = true;
  for (let i = 0; i < 3; i++) {
    expect(await store.commit([table.put("2", 2)], { sync: true }).catch(codeOf)).toBe(
      "store_not_writable",
    );
    expect(await table.get("1")).toBe(1);
  }
  expect(state.opened).toBe(1);
  state.broken = false;
  refuses = false;
  await store.commit([table.put("2", 2)], { sync: true });
  expect(await table.get("2")).toBe(2);
  await store.stop();
});

test("whoever reads has a database opened again that nobody writes to", async () => {
  const { state, open } = breakable();
  const store = await opened(await tempDir(), open);
  const table = store.table("a", numbers);
  await store.commit([table.put("1", 1)], { sync: true });
  state.broken = true;
  // The second one closes the database to open it anew, and that fails.
  for (let i = 0; i < 2; i++) await store.commit([table.put("2", 2)], { sync: true }).catch(codeOf);
  expect(await table.get("1").catch(codeOf)).toBe("store_unreadable");
  state.broken = false;
  expect(await waitFor(() => table.get("1"), { guardMs: 5_000 })).toBe(1);
  await store.stop();
});

test("a second opener is told who holds the folder, and the first is not disturbed", async () => {
  const dir = await tempDir();
  const store = await opened(dir);
  const error = await opened(dir).catch((e: unknown) => e);
  expect(codeOf(error)).toBe("store_locked");
  expect((error as HoldfastError).message).toContain(`process ${process.pid}`);
  const table = store.table("a", numbers);
  await store.commit([table.put("1", 1)], { sync: true });
  await store.stop();
});

test("a marker that cannot be read is no first start", async () => {
  const dir = await tempDir();
  await (await opened(dir)).stop();
  await rm(join(dir, "db"), { recursive: true });
  await rm(join(dir, "store.json"));
  await mkdir(join(dir, "store.json")); // Reading it fails, and not because it is missing.
  expect(await opened(dir).catch(codeOf)).toBe("store_unreadable");
  expect(await readdir(dir)).toEqual(["anchor", "store.json"]);
});

test("a folder of a newer release is refused and left as it is", async () => {
  const dir = await tempDir();
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, "store.json"), '{"format":2}');
  expect(await opened(dir).catch(codeOf)).toBe("store_newer_format");
  expect(await readdir(dir)).toEqual(["store.json"]);
  expect(await readFile(join(dir, "store.json"), "utf8")).toBe('{"format":2}');
});

test("commit after stop says so", async () => {
  const store = await opened(await tempDir());
  const table = store.table("a", numbers);
  await store.stop();
  await store.stop();
  expect(await store.commit([table.put("1", 1)], { sync: true }).catch(codeOf)).toBe("stopped");
});
