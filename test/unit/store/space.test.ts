/** I6: the quota and the floor of free space hold, and draining goes on. */
import { readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { HoldfastError } from "../../../agent/core/errors.ts";
import { silentLog } from "../../../agent/core/log.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import type { FreeSpace } from "../../../agent/store/space.ts";
import { judge } from "../../../agent/store/space.ts";
import {
  DatabaseStore,
  jsonCodec,
  type KeyValueOpener,
  openLevel,
} from "../../../agent/store/store.ts";
import { shouldCompact } from "../../../agent/wiring/store-watch.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";

const MB = 1_048_576;
const texts = jsonCodec(String);
const random = new SystemRandom();
const codeOf = (error: unknown) => (error instanceof HoldfastError ? error.code : String(error));

/** A disk with as much room as the test says; full means that LevelDB and files are refused. */
async function rig(options: { quotaMb?: number; keepFreeMb?: number } = {}) {
  const dir = await tempDir();
  const disk = { free: 1_000 * MB, inodes: 1_000, full: false };
  const ballastThere = () =>
    stat(join(dir, "ballast")).then(
      () => true,
      () => false,
    );
  const noSpace = () => Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
  const openDatabase: KeyValueOpener = async (folder, how) => {
    if (disk.full && (await ballastThere())) throw noSpace();
    const database = await openLevel(folder, how);
    let poisoned = false;
    return {
      ...database,
      batch: async (operations, how2) => {
        poisoned ||= disk.full && (await ballastThere());
        if (poisoned) throw noSpace();
        await database.batch(operations, how2);
      },
    };
  };
  const store = new DatabaseStore(
    {
      dir,
      ballastBytes: 2 * MB,
      space: {
        quotaBytes: (options.quotaMb ?? 100) * MB,
        keepFreeBytes: (options.keepFreeMb ?? 10) * MB,
        keepFreeInodes: 10,
      },
    },
    {
      ...{ openDatabase, random, log: silentLog },
      freeSpace: async (): Promise<FreeSpace> => ({ bytes: disk.free, inodes: disk.inodes }),
      probe: async () => {
        if (disk.full && (await ballastThere())) throw noSpace();
      },
    },
  );
  await store.start();
  const table = store.table("a", texts);
  const put = (key: string, bytes = 10) =>
    store
      .commit([table.put(key, "x".repeat(bytes))], { sync: true, grows: 5 })
      .then(() => "done", codeOf);
  return { dir, disk, store, table, put, ballastThere };
}

test("the ballast is there from the start, and it is real data", async () => {
  const { dir, store, ballastThere } = await rig();
  expect(await ballastThere()).toBe(true);
  const { size, blocks } = await stat(join(dir, "ballast"));
  expect(size).toBe(2 * MB);
  expect(blocks * 512).toBeGreaterThanOrEqual(2 * MB);
  await store.stop();
});

test("on a full disk the ballast goes, what drains is written, what grows is refused", async () => {
  const { disk, store, table, put, ballastThere } = await rig();
  expect(await put("1")).toBe("done");
  disk.full = true;
  disk.free = 0;
  expect(await put("2")).toBe("store_not_writable");
  // The next commit finds the room of the ballast.
  await store.commit([table.del("1")], { sync: true });
  expect(await ballastThere()).toBe(false);
  expect(store.state).toBe("open");
  expect(store.shortFrom).toBeLessThanOrEqual(3);
  expect(await put("3")).toBe("store_not_writable");
  await store.commit([table.put("4", "reply")], { sync: true });
  expect(await table.get("4")).toBe("reply");

  disk.full = false;
  disk.free = 1_000 * MB;
  await store.look();
  expect(store.shortFrom).toBe(Number.POSITIVE_INFINITY);
  expect(await put("5")).toBe("done");
  await store.secure();
  expect(await ballastThere()).toBe(true);
  await store.stop();
});

test("one refusal for want of room that is over at once leaves nobody waiting", async () => {
  const { disk, store, put } = await rig();
  disk.full = true;
  expect(await put("1")).toBe("store_not_writable");
  disk.full = false;
  // Nobody commits anything meanwhile, and whoever asks first is told that there is room.
  await waitFor(() => store.shortFrom === Number.POSITIVE_INFINITY);
  expect(await put("2")).toBe("done");
  await store.stop();
});

test("the floor of free space refuses before the disk is full, and lets go of it again", async () => {
  const { disk, store, put } = await rig({ keepFreeMb: 64 });
  disk.free = 63 * MB;
  const room = await store.look();
  expect(room?.short).toBe(true);
  expect(room?.overBytes).toBeGreaterThan(0);
  expect(await put("1")).toBe("store_not_writable");
  disk.free = 80 * MB;
  await store.look();
  expect(await put("1")).toBe("done");
  disk.inodes = 5;
  await store.look();
  expect(await put("2")).toBe("store_not_writable");
  await store.stop();
});

test("the quota counts everything in the folder, and is never passed", async () => {
  const { dir, store, put } = await rig({ quotaMb: 16 });
  let refused = 0;
  for (let i = 0; i < 400 && refused < 3; i++) {
    const value = Buffer.from(random.bytes(48_000)).toString("base64");
    const table = store.table("b", texts);
    const outcome = await store
      .commit([table.put(String(i), value)], { sync: true, grows: 5 })
      .then(() => "done", codeOf);
    if (outcome !== "done") refused++;
  }
  expect(refused).toBe(3);
  const room = await store.look();
  expect(room?.usedBytes).toBeGreaterThan(8 * MB);
  expect(room?.usedBytes).toBeLessThanOrEqual(16 * MB);
  await writeFile(join(dir, "strange"), Buffer.alloc(14 * MB, 1));
  expect((await store.look())?.usedBytes).toBeGreaterThan(14 * MB);
  expect(await put("no")).toBe("store_not_writable");
  await store.stop();
});

test.each([100, 3_000])(
  "what %i deleted records held is free after a compaction",
  async (count) => {
    const { store } = await rig();
    const table = store.table("b", texts);
    const keys = Array.from({ length: count }, (_, i) => String(i).padStart(5, "0"));
    for (const key of keys) {
      const value = Buffer.from(random.bytes(3_000)).toString("base64");
      await store.commit([table.put(key, value)], { sync: false });
    }
    await store.commit([table.put("99999", "kept")], { sync: true });
    const peak = await store.size();
    for (const key of keys) await store.commit([table.del(key)], { sync: false });
    await store.compact("b");
    expect(await store.size()).toBeLessThan(peak / 20);
    expect(await table.get("99999")).toBe("kept");
    await store.stop();
  },
);

test("a start on a disk that takes nothing is degraded where that is asked for", async () => {
  const dir = await tempDir();
  const first = new DatabaseStore({ dir }, { openDatabase: openLevel, random, log: silentLog });
  await first.start();
  await first.stop();
  let broken = true;
  const options = { dir, degraded: true };
  const cause = Object.assign(new Error("read-only file system"), { code: "EROFS" });
  const probe = async () => {
    if (broken) throw cause;
  };
  const openDatabase: KeyValueOpener = async (folder, how) => {
    if (broken) throw new Error("IO error", { cause });
    return openLevel(folder, how);
  };
  const store = new DatabaseStore(options, { openDatabase, random, log: silentLog, probe });
  await store.start();
  expect(store.state).toBe("read-only");
  const table = store.table("a", texts);
  expect(await table.get("1")).toBeUndefined();
  expect(await Array.fromAsync(table.range({ limit: 5 }))).toEqual([]);
  expect(await store.commit([table.put("1", "")], { sync: true }).catch(codeOf)).toBe(
    "store_not_writable",
  );
  expect(await store.recoverable()).toBe(false);
  broken = false;
  expect(await store.recoverable()).toBe(true);
  await store.stop();
  expect((await readdir(dir)).some((name) => name.startsWith("damaged"))).toBe(false);

  broken = true;
  const strict = new DatabaseStore({ dir }, { openDatabase, random, log: silentLog, probe });
  await expect(strict.start()).rejects.toMatchObject({ code: "store_not_writable" });
});

test("a fault that strikes a start once costs nothing", async () => {
  const dir = await tempDir();
  for (const [fault, after] of [
    [1, "first start"],
    [1, "second start"],
  ] as const) {
    let left = fault;
    const openDatabase: KeyValueOpener = async (folder, how) => {
      if (left-- > 0) throw new Error("IO error: input/output error");
      return openLevel(folder, how);
    };
    const store = new DatabaseStore({ dir }, { openDatabase, random, log: silentLog });
    await store.start();
    expect(store.state, after).toBe("open");
    await store.stop();
  }
});

describe("room", () => {
  const options = { quotaBytes: 320 * MB, keepFreeBytes: 64 * MB, keepFreeInodes: 64 };
  const plenty = { bytes: 10_000 * MB, inodes: 1e6 };

  test("is made before it is short", () => {
    expect(judge(280 * MB, plenty, options, false)).toMatchObject({ overBytes: 0, short: false });
    const near = judge(290 * MB, plenty, options, false);
    expect(near).toMatchObject({ overBytes: 10 * MB, overQuotaBytes: 10 * MB, short: false });
    const filled = judge(10 * MB, { ...plenty, bytes: 60 * MB }, options, false);
    expect(filled).toMatchObject({ overBytes: 20 * MB, overQuotaBytes: 0, short: true });
    expect(judge(305 * MB, plenty, options, false)).toMatchObject({ short: true });
  });

  test("stays short until there is a little more of it", () => {
    expect(judge(300 * MB, plenty, options, true).short).toBe(true);
    expect(judge(287 * MB, plenty, options, true).short).toBe(false);
  });

  test.each([
    ["a quota that is near", 295, 10_000, 1e6, Number.POSITIVE_INFINITY],
    ["a quota that is reached", 297, 10_000, 1e6, 4],
    ["half of its reserve used", 301, 10_000, 1e6, 3],
    ["all of its reserve used", 305, 10_000, 1e6, 1],
    ["a floor that is reached", 0, 63, 1e6, 4],
    ["half of what is under the floor used", 0, 30, 1e6, 3],
    ["a full disk", 0, 1, 1e6, 1],
    ["few inodes", 0, 10_000, 60, 4],
    ["no inodes", 0, 10_000, 3, 1],
  ])("%s: the least important is refused first", (_what, usedMb, freeMb, inodes, from) => {
    const free = { bytes: freeMb * MB, inodes };
    expect(judge(usedMb * MB, free, options, false).shortFrom).toBe(from);
  });

  test("a ballast counts as room for what is important", () => {
    const full = { bytes: 0, inodes: undefined };
    const bare = { quotaBytes: 320 * MB, keepFreeBytes: 0, keepFreeInodes: 0 };
    expect(judge(0, full, bare, true, 4 * MB).shortFrom).toBe(4);
    expect(judge(0, full, bare, true, 0).shortFrom).toBe(1);
  });

  test("a floor of nothing leaves a little for what is important all the same", () => {
    const bare = { quotaBytes: 320 * MB, keepFreeBytes: 0, keepFreeInodes: 0 };
    const at = (freeMb: number) => judge(0, { bytes: freeMb * MB, inodes: 0 }, bare, false);
    expect([5, 3.5, 2.5, 1].map((mb) => at(mb).shortFrom)).toEqual([
      Number.POSITIVE_INFINITY,
      4,
      3,
      1,
    ]);
  });

  test("a file system that does not count inodes has enough", () => {
    const free = { bytes: plenty.bytes, inodes: undefined };
    expect(judge(0, free, options, false).short).toBe(false);
  });
});

describe("compaction", () => {
  const calm = { writtenBytes: 0, sinceLastMs: 1e9, pressed: false };
  test.each([
    ["a drained database", { databaseBytes: 300 * MB, liveBytes: 0, ...calm }, true],
    [
      "one that was just compacted",
      { databaseBytes: 2 * MB, liveBytes: 0, ...calm, sinceLastMs: 5_000 },
      false,
    ],
    ["next to nothing", { databaseBytes: MB / 2, liveBytes: 0, ...calm }, false],
    ["one that is full", { databaseBytes: 300 * MB, liveBytes: 230 * MB, ...calm }, false],
    ["one that is half garbage", { databaseBytes: 300 * MB, liveBytes: 80 * MB, ...calm }, true],
    [
      "heavy traffic",
      { databaseBytes: 300 * MB, liveBytes: 0, ...calm, writtenBytes: 20 * MB },
      false,
    ],
    [
      "heavy traffic without room",
      { databaseBytes: 300 * MB, liveBytes: 0, ...calm, writtenBytes: 20 * MB, pressed: true },
      true,
    ],
  ])("%s", (_, facts, expected) => {
    expect(shouldCompact(facts)).toBe(expected);
  });
});
