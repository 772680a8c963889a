import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { HoldfastError } from "../core/errors.ts";

/** One line of /proc/locks about a file. */
export interface KernelLock {
  readonly pid: number;
  /** The file system, as `major:minor` in hexadecimal. */
  readonly device: string;
}

/**
 * Throws `store_locked` while a process has the database open, before anything in the folder is
 * touched. LevelDB holds a lock on its file `LOCK`, which the kernel lists by inode. That number
 * alone says little: each file system has a file of this number. Some (btrfs, overlays) list another
 * device than `stat` tells, so then the holder's open files are looked at. Where the kernel cannot
 * be asked, opening finds out.
 */
export async function refuseHeld(folder: string): Promise<void> {
  const file = await stat(join(folder, "LOCK"), { bigint: true }).catch(() => undefined);
  if (!file) return;
  const device = deviceName(file.dev);
  const text = await readFile("/proc/locks", "utf8").catch(() => "");
  for (const lock of locksOf(text, file.ino)) {
    const held = lock.device === device || (await hasOpen(lock.pid, file));
    if (held) throw new HoldfastError("store_locked");
  }
}

/** The locks of POSIX kind on files with this inode number, on any file system. */
export function locksOf(procLocks: string, ino: bigint): KernelLock[] {
  return procLocks.split("\n").flatMap((line) => {
    const [, kind, , , pid, file = ""] = line.trim().split(/\s+/);
    const [major, minor, inode] = file.split(":");
    if (kind !== "POSIX" || inode !== String(ino)) return [];
    return [{ pid: Number(pid), device: `${major}:${minor}` }];
  });
}

/** As /proc/locks has it: the kernel's 12 and 20 bits, out of what `stat` packs into 64. */
export function deviceName(dev: bigint): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n);
  return [major, minor].map((one) => one.toString(16).padStart(2, "0")).join(":");
}

async function hasOpen(pid: number, file: { dev: bigint; ino: bigint }): Promise<boolean> {
  const folder = `/proc/${pid}/fd`;
  for (const fd of await readdir(folder).catch(() => [])) {
    const open = await stat(join(folder, fd), { bigint: true }).catch(() => undefined);
    if (open?.ino === file.ino && open.dev === file.dev) return true;
  }
  return false;
}
