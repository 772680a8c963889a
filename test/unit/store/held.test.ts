/** Whether a store is held is told by its file, not by a number that every file system has. */
import { mkdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { deviceName, locksOf, refuseHeld } from "../../../agent/store/held.ts";
import { openLevel } from "../../../agent/store/level.ts";
import { tempDir } from "../../support/temp-dir.ts";

const listed = `1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF
2: FLOCK  ADVISORY  WRITE 3517 fd:00:20 0 EOF
2: -> POSIX ADVISORY  WRITE 99 fd:00:21 0 EOF
3: POSIX  ADVISORY  WRITE 3548 07:03:20 0 EOF
4: POSIX  ADVISORY  READ  3533 103:05:20 128 128
`;

test("locks are found by inode, and each tells its file system", () => {
  expect(locksOf(listed, 20n)).toEqual([
    { pid: 3548, device: "07:03" },
    { pid: 3533, device: "103:05" },
  ]);
  expect(locksOf(listed, 2n)).toEqual([]);
  expect(locksOf("", 20n)).toEqual([]);
});

test.each([
  [0x0703n, "07:03"],
  [0xfd00n, "fd:00"],
  [0x1210367n, "103:1267"],
])("the device %s is %s", (dev, name) => {
  expect(deviceName(dev)).toBe(name);
});

test("a database that is open is held, its file alone is not", async () => {
  const dir = join(await tempDir(), "db");
  await mkdir(dir);
  await writeFile(join(dir, "LOCK"), "");
  await refuseHeld(dir);
  const database = await openLevel(dir, { createIfMissing: true });
  await expect(refuseHeld(dir)).rejects.toMatchObject({ code: "store_locked" });
  await database.close();
  await refuseHeld(dir);
  expect((await stat(join(dir, "LOCK"))).isFile()).toBe(true);
});
