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
  /** So many of them for the quota; the rest would only make up for what others took. */
  readonly overQuotaBytes: number;
  /** Ordinary content is not taken: the quota or the floor is reached. */
  readonly short: boolean;
  /** New content of this priority and of less important ones is not taken; infinite: all is. */
  readonly shortFrom: number;
}

/**
 * Of the quota, in five parts: in the first two room is made for what comes (`overBytes`), the third
 * is kept for important content, and the last two are for what LevelDB writes in the background:
 * while it merges tables the old and the new ones are there. (Seen under load: 7 MB more than
 * between two merges, in a database of 40 MB.)
 */
const RESERVE_BYTES = 40 * 1024 * 1024;
const MB = 1024 * 1024;
/** Free bytes that only LevelDB may use, to be opened and to delete. */
const LEAST_FREE = 2 * MB;
/** Free bytes under which ordinary content is not taken, however low the floor is set. */
const LEAST_FLOOR = 4 * MB;
/** The same of inodes for important content. */
const LEAST_INODES = 16;

/** Priorities up to this one may use the reserve; this one itself only half of it. */
const HALF_RESERVE = 3;

/** Whether content of this priority may use what is kept back from all other. */
export function isImportant(priority: number): boolean {
  return priority <= HALF_RESERVE;
}

/**
 * Watches the quota of the state folder and the floor of free space. New content is refused before
 * either is reached, so that there is always room to drain: deleting and compacting write too. And
 * ordinary content is refused before important content is, so that a backlog of telemetry never
 * keeps an alarm or a reply from the disk.
 */
export class Space {
  readonly #dir: string;
  readonly #options: SpaceOptions;
  readonly #free: (dir: string) => Promise<FreeSpace>;
  #room: Room | undefined;
  #inodes: number | undefined;
  #spareBytes = 0;
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
  get shortFrom(): number {
    if (!this.#room) return Number.POSITIVE_INFINITY;
    const { usedBytes, freeBytes, short, shortFrom } = this.#room;
    if (this.#since === 0) return shortFrom;
    const free = { bytes: freeBytes - this.#since, inodes: this.#inodes };
    const now = judge(usedBytes + this.#since, free, this.#options, short, this.#spareBytes);
    return Math.min(shortFrom, now.shortFrom);
  }

  /** True when it is time for a look. */
  wrote(bytes: number): boolean {
    this.#since += bytes;
    return this.#room === undefined || this.#since > Math.min(16 * MB, this.#left(this.#room) / 2);
  }

  /** The disk refused: nothing ordinary until a look says otherwise. */
  refused(): void {
    if (!this.#room) return;
    const shortFrom = Math.min(this.#room.shortFrom, HALF_RESERVE);
    this.#room = { ...this.#room, short: true, shortFrom };
  }

  /** `spareBytes` would be free if they were needed: the ballast. */
  async look(spareBytes = 0): Promise<Room> {
    const [usedBytes, free] = await Promise.all([diskUse(this.#dir), this.#free(this.#dir)]);
    const room = judge(usedBytes, free, this.#options, this.#room?.short ?? false, spareBytes);
    this.#room = room;
    this.#spareBytes = spareBytes;
    this.#inodes = free.inodes;
    this.#since = 0;
    return room;
  }

  /** Bytes that may still be written before a limit. */
  #left({ usedBytes, freeBytes }: Room): number {
    const { quotaLine, floor } = linesOf(this.#options);
    return Math.max(0, Math.min(quotaLine - usedBytes, freeBytes - floor));
  }
}

/** Pure. Once short, it stays so until there is a little more room: else it would flap. */
export function judge(
  usedBytes: number,
  free: FreeSpace,
  options: SpaceOptions,
  wasShort: boolean,
  spareBytes = 0,
): Room {
  const { fifth, quotaLine, floor } = linesOf(options);
  const overQuota = usedBytes - quotaLine;
  const over = Math.max(overQuota, floor - free.bytes);
  const { inodes } = free;
  const fewInodes = inodes !== undefined && inodes < options.keepFreeInodes;
  const short = over + (wasShort ? fifth : 0) > 0 || fewInodes;
  return {
    usedBytes,
    freeBytes: free.bytes,
    // Room is made before it is short, so that lanes that may drop need not refuse.
    overBytes: Math.max(0, over + 2 * fifth),
    overQuotaBytes: Math.max(0, overQuota + 2 * fifth),
    short,
    shortFrom: short
      ? refusedFrom(usedBytes, { ...free, bytes: free.bytes + spareBytes }, options)
      : Number.POSITIVE_INFINITY,
  };
}

/** While ordinary content is refused. */
function refusedFrom(usedBytes: number, free: FreeSpace, options: SpaceOptions): number {
  const { fifth, quotaLine, floor } = linesOf(options);
  const { keepFreeInodes } = options;
  const used = Math.max(
    (usedBytes - quotaLine) / fifth,
    (floor - free.bytes) / (floor - LEAST_FREE),
    free.inodes === undefined
      ? 0
      : (keepFreeInodes - free.inodes) / Math.max(1, keepFreeInodes - LEAST_INODES),
  );
  if (used >= 1) return 1;
  return used >= 0.5 ? HALF_RESERVE : HALF_RESERVE + 1;
}

/** Where ordinary content ends. A small quota cannot spare as much. */
function linesOf({ quotaBytes, keepFreeBytes }: SpaceOptions) {
  const fifth = Math.min(RESERVE_BYTES, quotaBytes / 3) / 5;
  const floor = Math.max(keepFreeBytes, LEAST_FLOOR);
  return { fifth, quotaLine: quotaBytes - 3 * fifth, floor };
}

async function systemFreeSpace(dir: string): Promise<FreeSpace> {
  const { bsize, bavail, files, ffree } = await statfs(dir);
  return { bytes: bsize * bavail, inodes: files === 0 ? undefined : ffree };
}
