/** I12, I13 for the store: what is damaged is noticed, saved where it can be, and never silent. */
import { cp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { expect, test } from "vitest";
import { silentLog } from "../../../agent/core/log.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import {
  DatabaseStore,
  jsonCodec,
  type MissingCounter,
  openLevel,
} from "../../../agent/store/store.ts";
import { copyLiving } from "../../support/copy-living.ts";
import { tempDir } from "../../support/temp-dir.ts";

const texts = jsonCodec(String);
const random = new SystemRandom();

async function opened(dir: string): Promise<DatabaseStore> {
  const store = new DatabaseStore(
    { dir },
    { openDatabase: openLevel, random, log: silentLog, countMissing },
  );
  await store.start();
  return store;
}

/** These tests delete no record. */
const countMissing: MissingCounter = async (tables, lastNumber) => {
  const all = await Array.fromAsync(tables.table("records", texts).range({ limit: 1e9 }));
  return lastNumber - all.length;
};

/** Commits `count` numbered records of 1 KB. */
async function fill(store: DatabaseStore, count: number): Promise<void> {
  const table = store.table("records", texts);
  for (let i = 0; i < count; i++) {
    const value = Buffer.from(random.bytes(512)).toString("hex");
    const write = table.putNumbered((number) => ({ key: `r/${hex(number)}`, value }));
    await store.commit([write], { sync: i % 50 === 49 || i === count - 1 });
  }
}

const hex = (number: number): string => number.toString(16).padStart(12, "0");

async function keys(store: DatabaseStore): Promise<number> {
  const all = await Array.fromAsync(store.table("records", texts).range({ limit: 1e9 }));
  return all.length;
}

/** A folder as a kill leaves it: copied while the store is open. */
async function killed(count: number): Promise<string> {
  const dir = await tempDir();
  const store = await opened(join(dir, "living"));
  await fill(store, count);
  await store.secure();
  await copyLiving(join(dir, "living"), join(dir, "left"));
  await store.stop();
  return join(dir, "left");
}

async function fileOf(dir: string, pattern: RegExp): Promise<string> {
  const name = (await readdir(join(dir, "db"))).find((one) => pattern.test(one));
  if (name === undefined) throw new Error(`no file like ${pattern}`);
  return join(dir, "db", name);
}

test("a kill is no damage: nothing is set aside, nothing is lost", async () => {
  const dir = await killed(6_000);
  const store = await opened(dir);
  expect(store.salvage).toBeUndefined();
  expect(await keys(store)).toBe(6_000);
  await store.stop();
  expect((await readdir(dir)).sort()).toEqual(["anchor", "db", "store.json"]);
});

/** As a power cut leaves it while the first table is made of the log: the manifest names none yet. */
async function cutInFirstTable(): Promise<string> {
  const dir = await killed(300);
  const later = `${dir}.later`;
  await cp(dir, later, { recursive: true });
  await (await openLevel(join(later, "db"), { createIfMissing: false })).close();
  const table = await fileOf(later, /\.ldb$/);
  await cp(table, join(dir, "db", basename(table)));
  return dir;
}

test("a first table that a power cut left unnamed is no damage", async () => {
  const dir = await cutInFirstTable();
  const store = await opened(dir);
  expect(store.salvage).toBeUndefined();
  expect(await keys(store)).toBe(300);
  await store.stop();
});

test("a table that no manifest names is saved where its log is gone", async () => {
  const dir = await cutInFirstTable();
  await rm(await fileOf(dir, /\.log$/));
  const store = await opened(dir);
  expect(store.salvage).toMatchObject({
    outcome: "repaired",
    cause: expect.stringContaining("names no table"),
  });
  expect(await keys(store)).toBe(300);
  await store.stop();
});

test.each([
  ["CURRENT missing", async (dir: string) => rm(join(dir, "db", "CURRENT"))],
  ["CURRENT empty", async (dir: string) => writeFile(join(dir, "db", "CURRENT"), "")],
  ["MANIFEST missing", async (dir: string) => rm(await fileOf(dir, /^MANIFEST/))],
  ["MANIFEST cut", async (dir: string) => truncate(await fileOf(dir, /^MANIFEST/), 60)],
  ["MANIFEST empty", async (dir: string) => truncate(await fileOf(dir, /^MANIFEST/), 0)],
])("%s: all records are back, and it is told", async (_, damage) => {
  const dir = await killed(6_000);
  await damage(dir);
  const store = await opened(dir);
  expect(store.salvage?.outcome).toBe("repaired");
  expect(await keys(store)).toBe(6_000);
  expect(store.lastNumber).toBe(6_000);
  expect(store.salvages).toBe(1);
  await store.stop();
  expect((await readdir(dir)).sort()).toEqual(["anchor", "damaged-1", "db", "store.json"]);

  const again = await opened(dir);
  expect(again.salvage).toBeUndefined();
  expect(again.salvages).toBe(1);
  expect(await keys(again)).toBe(6_000);
  await again.stop();
});

test("a log that was cut opens without an error; the anchor knows better", async () => {
  const dir = await killed(100);
  await truncate(await fileOf(dir, /\.log$/), 40_000);
  const store = await opened(dir);
  expect(store.salvage?.outcome).toBe("kept");
  expect(store.salvage?.cause).toContain("100 was committed");
  const left = await keys(store);
  expect(left).toBeGreaterThan(10);
  expect(left).toBeLessThan(60);
  // What is lost keeps its numbers, so that the hole stays a hole.
  expect(store.lastNumber).toBe(100);
  await fill(store, 1);
  expect(store.lastNumber).toBe(101);
  await store.stop();
});

test("what changed behind a clean stop is found, also where the database would open", async () => {
  const dir = await tempDir();
  const first = await opened(dir);
  await fill(first, 6_000);
  await first.stop();
  await truncate(await fileOf(dir, /^MANIFEST/), 60);
  const store = await opened(dir);
  expect(store.salvage?.outcome).toBe("repaired");
  expect(await keys(store)).toBe(6_000);
  await store.stop();
});

test("what cannot be saved is set aside by name, and a new store takes its place", async () => {
  const dir = await killed(100);
  for (const name of await readdir(join(dir, "db"))) {
    await writeFile(join(dir, "db", name), Buffer.alloc(1_000, 0x55));
  }
  const { id } = JSON.parse(await readFile(join(dir, "store.json"), "utf8")) as { id: string };
  const store = await opened(dir);
  expect(store.salvage).toMatchObject({ outcome: "replaced", aside: "damaged-1" });
  expect(store.id).not.toBe(id);
  expect(store.lastNumber).toBe(0);
  await fill(store, 5);
  await store.stop();
  const bytes = await readFile(join(dir, "damaged-1", "CURRENT"));
  expect(bytes.equals(Buffer.alloc(1_000, 0x55))).toBe(true);
});

test("a folder that is gone altogether is replaced, and it is told", async () => {
  const dir = await killed(100);
  await rm(join(dir, "db"), { recursive: true });
  const store = await opened(dir);
  expect(store.salvage?.outcome).toBe("replaced");
  await store.stop();
});

test("one damaged store is kept, and it goes when its room is needed", async () => {
  const dir = await killed(100);
  for (const count of [1, 2, 3]) {
    await rm(join(dir, "db", "CURRENT"));
    const store = await opened(dir);
    expect(store.salvages).toBe(count);
    await store.stop();
    expect((await readdir(dir)).filter((name) => name.startsWith("damaged"))).toEqual([
      `damaged-${count}`,
    ]);
  }
  const store = await opened(dir);
  expect(await store.removeAside()).toBe(true);
  expect(await store.removeAside()).toBe(false);
  await store.stop();
});

test("a start that was interrupted anywhere in a repair is gone on from", async () => {
  const dir = await killed(6_000);
  await rm(join(dir, "db", "CURRENT"));
  await cp(join(dir, "db"), join(dir, "db.copying"), { recursive: true });
  await rm(join(dir, "db.copying", "000005.ldb"), { force: true });
  let store = await opened(dir);
  expect(await keys(store)).toBe(6_000);
  await store.stop();

  // Between the two renames that swap the repaired one in.
  await cp(join(dir, "db"), join(dir, "db.ready"), { recursive: true });
  await rm(join(dir, "db"), { recursive: true });
  store = await opened(dir);
  expect(await keys(store)).toBe(6_000);
  await store.stop();
});

test("a second starter leaves the first one's folder alone", async () => {
  const dir = await tempDir();
  const store = await opened(dir);
  await fill(store, 10);
  const before = (await readdir(dir)).sort();
  await expect(opened(dir)).rejects.toMatchObject({ code: "store_locked" });
  expect((await readdir(dir)).sort()).toEqual(before);
  await store.stop();
});
