/** What is done with a whole folder of a LevelDB: copied, compared, measured. */
import { copyFile, link, lstat, mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { isBrokenInside } from "./level-log.ts";
import { type ManifestFacts, readManifest } from "./manifest.ts";
import { syncFolder } from "./state-files.ts";

/** Not its lock, its log for people, and the folder of what a repair had no use for. */
const DATA = /^(CURRENT|MANIFEST-\d+|\d+\.(ldb|sst|log))$/;
const isTable = (name: string): boolean => /\.(ldb|sst)$/.test(name);

/**
 * A copy that what happens to the original does not touch: table files are never rewritten, so they
 * become hard links; the others are copied. Gives the names that could not be read; throws when
 * the copy cannot be written.
 */
export async function copyDatabase(from: string, to: string): Promise<string[]> {
  await rm(to, { recursive: true, force: true });
  await mkdir(to, { mode: 0o700 });
  const unreadable: string[] = [];
  for (const name of await dataFiles(from)) {
    if (isTable(name) && (await linked(join(from, name), join(to, name)))) continue;
    if (await canRead(join(from, name))) await copyFile(join(from, name), join(to, name));
    else unreadable.push(name);
  }
  await syncFolder(to);
  return unreadable;
}

/**
 * Deletes the table files that the manifest does not name, as LevelDB itself does when it opens: but
 * before it can write into them under a number that it gives twice, which a hard link would share.
 * Throws where the manifest cannot be read; then the folder must not be opened.
 */
export async function removeStrays(folder: string): Promise<void> {
  const files = await dataFiles(folder);
  if (!files.some((file) => file !== "CURRENT")) return;
  const name = (await readFile(join(folder, "CURRENT"), "latin1")).trim();
  if (!/^MANIFEST-\d+$/.test(name)) throw new RangeError("CURRENT names no manifest");
  const facts = readManifest(await readFile(join(folder, name)));
  const strays = files.filter((file) => isTable(file) && !facts.live.has(numberOf(file)));
  // Not one of a database may go, unless it is the first and was cut short: else the manifest is
  // another one's.
  const names = facts.live.size > 0 || strays.length === 0 || areUnfinished(strays, files, facts);
  if (!names) throw new RangeError("the manifest names no table");
  for (const stray of strays) await rm(join(folder, stray), { force: true });
}

/**
 * Whether a power cut alone explains tables that a manifest without any does not name: they were
 * being made of a log that is still there, whole, because it goes only after the manifest has them.
 */
function areUnfinished(
  strays: readonly string[],
  files: readonly string[],
  { firstLog }: ManifestFacts,
): boolean {
  const logs = files.filter((file) => file.endsWith(".log")).map(numberOf);
  return firstLog > 0 && logs.includes(firstLog) && strays.every((it) => numberOf(it) > firstLog);
}

function numberOf(file: string): number {
  return Number.parseInt(file, 10);
}

/** Names of the logs that are broken inside; LevelDB would leave out what it cannot read. */
export async function brokenLogs(folder: string): Promise<string[]> {
  const broken: string[] = [];
  for (const name of await dataFiles(folder)) {
    if (!name.endsWith(".log")) continue;
    const log = await readFile(join(folder, name)).catch(() => undefined);
    if (log && isBrokenInside(log)) broken.push(name);
  }
  return broken;
}

/**
 * A sum over the names and sizes of all files and over the content of all but the table files,
 * which are many and checked record by record. Undefined when there is no database.
 */
export async function inventory(folder: string): Promise<number | undefined> {
  try {
    let sum = 0;
    const names = await dataFiles(folder);
    if (!names.includes("CURRENT")) return undefined;
    for (const name of names) {
      const { size } = await stat(join(folder, name));
      sum = crc32(`${name} ${size}\n`, sum);
      if (!isTable(name)) sum = crc32(await readFile(join(folder, name)), sum);
    }
    return sum;
  } catch {
    return undefined;
  }
}

/** Names of the files with data, sorted; none when the folder is not there. */
export async function dataFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => DATA.test(name)).sort();
}

/** Bytes on disk of everything below a folder; a file with two names counts once. */
export async function diskUse(folder: string, seen = new Set<number>()): Promise<number> {
  let bytes = 0;
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      bytes += await diskUse(path, seen);
      continue;
    }
    // A file may go while it is looked at: LevelDB compacts when it wants to.
    const info = await lstat(path).catch(() => undefined);
    if (!info || seen.has(info.ino)) continue;
    seen.add(info.ino);
    bytes += Math.max(info.size, info.blocks * 512);
  }
  return bytes;
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch {
    return false; // A file system without hard links, or a file that is gone.
  }
}

async function canRead(path: string): Promise<boolean> {
  try {
    await readFile(path);
    return true;
  } catch {
    return false;
  }
}
