import { statfs } from "node:fs/promises";
import { diskUse } from "./folders.ts";

export interface SpaceOptions {
  /** Of everything in the state folder. */
  readonly quotaBytes: number;
  /** What stays free on the file system. */
  readonly keepFreeBytes: number;
  /** Files that may still be made on the file system. */
  readonly keepFreeInodes: number;
}

/** What a file system has; as `statfs` says. */
export interface FreeSpace {
  readonly bytes: number;
  /** Undefined where the file system does not count them. */
  readonly inodes: number | undefined;
}

export interface Room {
  readonly usedBytes: number;
  readonly freeBytes: number;
  /** So many bytes should go; 0: all is well. */
  readonly overBytes: number;
  /** Nothing new is taken: the quota or the floor is reached. */
  readonly short: boolean;
}

/**
 * Half of it is for what LevelDB writes in the background: while it merges tables the old and the new
 * ones are there. (Seen under load: 7 MB more than between two merges, in a database of 40 MB.)
 */
const RESERVE_BYTES = 32 * 1024 * 1024;
const MB = 1024 * 1024;

/**
 * Watches the quota of the state folder and the floor of free space. New content is refused before
 * either is reached, so that there is always room to drain: deleting and compacting write too.
 */
export class Space {
  readonly #dir: string;
  readonly #options: SpaceOptions;
  readonly #free: (dir: string) => Promise<FreeSpace>;
  #room: Room | undefined;
  /** Written since the last look. */
  #since = 0;

  constructor(
    dir: string,
    options: SpaceOptions,
    free: (dir: string) => Promise<FreeSpace> = systemFreeSpace,
  ) {
    this.#dir = dir;
    this.#options = options;
    this.#free = free;
  }

  get room(): Room | undefined {
    return this.#room;
  }

  /** By the last look and what was written since. */
  get short(): boolean {
    if (!this.#room) return false;
    return this.#room.short || this.#since > this.#left(this.#room);
  }

  /** True when it is time for a look. */
  wrote(bytes: number): boolean {
    this.#since += bytes;
    return this.#room === undefined || this.#since > Math.min(16 * MB, this.#left(this.#room) / 2);
  }

  /** The disk refused: nothing new until a look says otherwise. */
  refused(): void {
    if (this.#room) this.#room = { ...this.#room, short: true };
  }

  async look(): Promise<Room> {
    const [usedBytes, free] = await Promise.all([diskUse(this.#dir), this.#free(this.#dir)]);
    const room = judge(usedBytes, free, this.#options, this.#room?.short ?? false);
    this.#room = room;
    this.#since = 0;
    return room;
  }

  /** Bytes that may still be written before a limit. */
  #left({ usedBytes, freeBytes }: Room): number {
    const { quotaBytes, keepFreeBytes } = this.#options;
    const half = reserveOf(this.#options) / 2;
    return Math.max(0, Math.min(quotaBytes - half - usedBytes, freeBytes - keepFreeBytes));
  }
}

/** Pure. Once short, it stays so until there is a little more room: else it would flap. */
export function judge(
  usedBytes: number,
  free: FreeSpace,
  options: SpaceOptions,
  wasShort: boolean,
): Room {
  const { quotaBytes, keepFreeBytes, keepFreeInodes } = options;
  const half = reserveOf(options) / 2;
  const overQuota = usedBytes - (quotaBytes - half);
  const underFloor = keepFreeBytes - free.bytes;
  const over = Math.max(overQuota, underFloor);
  const fewInodes = free.inodes !== undefined && free.inodes < keepFreeInodes;
  return {
    usedBytes,
    freeBytes: free.bytes,
    // Room is made before it is short, so that lanes that may drop need not refuse.
    overBytes: Math.max(0, over + half),
    short: over + (wasShort ? half / 2 : 0) > 0 || fewInodes,
  };
}

/** A small quota cannot spare as much. */
function reserveOf({ quotaBytes }: SpaceOptions): number {
  return Math.min(RESERVE_BYTES, quotaBytes / 3);
}

async function systemFreeSpace(dir: string): Promise<FreeSpace> {
  const { bsize, bavail, files, ffree } = await statfs(dir);
  return { bytes: bsize * bavail, inodes: files === 0 ? undefined : ffree };
}
