import {
  chmodSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";

/**
 * The little that configuration needs of a file system. Synchronous on purpose: it is read once at
 * the start and at a reload, a few small files, and a half-read configuration never exists.
 */
export interface Files {
  /** Undefined when there is no such file; throws for everything else. */
  read(path: string): Uint8Array | undefined;
  /** Names in a folder, sorted; empty when there is no such folder. */
  list(folder: string): readonly string[];
  /** Permission bits; undefined when there is no such file. */
  mode(path: string): number | undefined;
  /** The old content or the new, never a mixture, also after a power cut. */
  writeAtomic(path: string, text: string, mode: number): void;
}

export const systemFiles: Files = {
  read: (path) => unlessMissing(() => readFileSync(path)),
  list: (folder) => (unlessMissing(() => readdirSync(folder)) ?? []).toSorted(),
  mode: (path) => unlessMissing(() => statSync(path).mode & 0o777),
  writeAtomic,
};

function writeAtomic(path: string, text: string, mode: number): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o750 });
  // One writer at a time is assumed: the last of two wins whole, as with any rename.
  const temporary = `${path}.tmp-${process.pid}`;
  try {
    writeSynced(temporary, text, mode);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  syncFolder(dirname(path));
}

function writeSynced(path: string, text: string, mode: number): void {
  rmSync(path, { force: true });
  const file = openSync(path, "wx", mode);
  try {
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  // The mode given to open is cut by the umask.
  chmodSync(path, mode);
}

/** The rename itself is safe only once the folder is on disk. */
function syncFolder(path: string): void {
  const folder = openSync(path, "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

function unlessMissing<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
}
