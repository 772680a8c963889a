/** When a store vouches for its last record number: the outbox looks nowhere else then. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { silentLog } from "../../../agent/core/log.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { DatabaseStore, jsonCodec, openLevel } from "../../../agent/store/store.ts";
import { copyLiving } from "../../support/copy-living.ts";
import { tempDir } from "../../support/temp-dir.ts";

const texts = jsonCodec(String);

async function opened(dir: string): Promise<DatabaseStore> {
  const deps = { openDatabase: openLevel, random: new SystemRandom(), log: silentLog };
  const store = new DatabaseStore({ dir }, deps);
  await store.start();
  onTestFinished(() => store.stop());
  return store;
}

async function addRecords(store: DatabaseStore, count: number): Promise<void> {
  const table = store.table("records", texts);
  const writes = Array.from({ length: count }, () =>
    table.putNumbered((number) => ({
      key: `r/${number.toString(16).padStart(12, "0")}`,
      value: "record",
    })),
  );
  await store.commit(writes, { sync: true });
}

const said = ({ lastNumber, lastNumberProven }: DatabaseStore) => [lastNumber, lastNumberProven];

test("a new store does, and one that was stopped cleanly", async () => {
  const dir = await tempDir();
  const store = await opened(dir);
  expect(said(store)).toEqual([0, true]);
  await addRecords(store, 3);
  await store.stop();
  expect(said(await opened(dir))).toEqual([3, true]);
});

test("one that was killed does not", async () => {
  const dir = await tempDir();
  const store = await opened(join(dir, "living"));
  await addRecords(store, 3);
  await copyLiving(join(dir, "living"), join(dir, "left"));
  expect((await opened(join(dir, "left"))).lastNumberProven).toBe(false);
});

test("nor one without its marker, whose records are all in the log", async () => {
  const dir = await tempDir();
  const store = await opened(join(dir, "living"));
  await addRecords(store, 3);
  await copyLiving(join(dir, "living"), join(dir, "left"));
  for (const name of ["store.json", "anchor"]) await rm(join(dir, "left", name), { force: true });
  const found = await opened(join(dir, "left"));
  expect(found.lastNumberProven).toBe(false);
  const records = found.table("records", texts).range({ limit: 10 });
  expect((await Array.fromAsync(records)).length).toBe(3);
});
