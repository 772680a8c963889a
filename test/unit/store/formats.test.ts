/** A release reads two formats and writes the older one until it is told otherwise. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { silentLog } from "../../../agent/core/log.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { type Format, Formats, ownFormats } from "../../../agent/store/formats.ts";
import { DatabaseStore, jsonCodec, openLevel } from "../../../agent/store/store.ts";
import { tempDir } from "../../support/temp-dir.ts";

const texts = jsonCodec(String);
const random = new SystemRandom();

/** What a later release might have: the same seal with another number. */
const later: Format = {
  number: 2,
  seal: (key, content) => {
    const sealed = (ownFormats[0] as Format).seal(key, content);
    sealed[0] = 2;
    return sealed;
  },
  unseal: (key, sealed) => {
    const copy = Uint8Array.from(sealed);
    copy[0] = 1;
    return (ownFormats[0] as Format).unseal(key, copy);
  },
};

/** Releases: this one, the next, and the next once it was told to write its own format. */
const releases = {
  old: new Formats(),
  next: new Formats([...ownFormats, later]),
  switched: new Formats([...ownFormats, later], 2),
};

async function opened(dir: string, formats: Formats): Promise<DatabaseStore> {
  const deps = { openDatabase: openLevel, random, log: silentLog, formats };
  const store = new DatabaseStore({ dir }, deps);
  await store.start();
  return store;
}

async function write(dir: string, formats: Formats, key: string): Promise<void> {
  const store = await opened(dir, formats);
  const table = store.table("a", texts);
  await store.commit([table.put(key, key)], { sync: true });
  await store.stop();
}

async function keys(dir: string, formats: Formats): Promise<string[]> {
  const store = await opened(dir, formats);
  const all = await Array.fromAsync(store.table("a", texts).range({ limit: 100 }));
  expect(store.damaged).toBe(0);
  await store.stop();
  return all.map(([key]) => key);
}

async function everything(dir: string): Promise<string[]> {
  const names = (await readdir(dir, { recursive: true })).sort();
  const contents = names.map((name) => readFile(join(dir, name), "latin1").catch(() => ""));
  return (await Promise.all(contents)).map((content, i) => `${names[i]} ${content}`);
}

test("an update that was not told to switch can be taken back", async () => {
  const dir = await tempDir();
  await write(dir, releases.old, "1");
  await write(dir, releases.next, "2");
  await write(dir, releases.old, "3");
  expect(await keys(dir, releases.old)).toEqual(["1", "2", "3"]);
  expect(await keys(dir, releases.next)).toEqual(["1", "2", "3"]);
});

test("a new folder of an update, too", async () => {
  const dir = await tempDir();
  await write(dir, releases.next, "1");
  expect(await keys(dir, releases.old)).toEqual(["1"]);
});

test("after the switch both formats are read, and the older release touches nothing", async () => {
  const dir = await tempDir();
  await write(dir, releases.old, "1");
  await write(dir, releases.switched, "2");
  expect(await keys(dir, releases.switched)).toEqual(["1", "2"]);
  const before = await everything(dir);
  await expect(opened(dir, releases.old)).rejects.toMatchObject({ code: "store_newer_format" });
  expect(await everything(dir)).toEqual(before);
  // What was written anew may stay; it only is not written any more.
  await write(dir, releases.next, "3");
  expect(await keys(dir, releases.next)).toEqual(["1", "2", "3"]);
});
