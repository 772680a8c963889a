import { readFileSync } from "node:fs";
import type { SeededRandom } from "../seeded-random.ts";

/** The unit that a disk writes whole or not at all; the loop device says so to the file system. */
const SECTOR = 4_096;
const HEAD_BYTES = 13;

export type Recorded =
  | { readonly kind: "write"; readonly offset: number; readonly bytes: Buffer }
  | { readonly kind: "flush" }
  | { readonly kind: "mark"; readonly text: string };

/** What `recording-disk` wrote. */
export function readRecording(path: string): Recorded[] {
  const log = readFileSync(path);
  const records: Recorded[] = [];
  for (let at = 0; at + HEAD_BYTES <= log.length; ) {
    const kind = String.fromCharCode(log[at] as number);
    const offset = Number(log.readBigUInt64LE(at + 1));
    const bytes = log.subarray(at + HEAD_BYTES, at + HEAD_BYTES + log.readUInt32LE(at + 9));
    at += HEAD_BYTES + bytes.length;
    if (kind === "W") records.push({ kind: "write", offset, bytes });
    else if (kind === "F") records.push({ kind: "flush" });
    else records.push({ kind: "mark", text: bytes.toString() });
  }
  return records;
}

/** The disk at one moment after the other; moments only go on. */
export class ReplayedDisk {
  readonly #records: readonly Recorded[];
  readonly #flushed: Buffer;
  #unflushed: { readonly offset: number; readonly bytes: Buffer }[] = [];
  #at = 0;

  constructor(records: readonly Recorded[], bytes: number) {
    this.#records = records;
    this.#flushed = Buffer.alloc(bytes);
  }

  /** Up to, and without, the record with this index. */
  advance(to: number): void {
    for (; this.#at < to; this.#at++) {
      const record = this.#records[this.#at];
      if (record?.kind === "write") this.#unflushed.push(record);
      else if (record?.kind === "flush") {
        for (const { offset, bytes } of this.#unflushed) bytes.copy(this.#flushed, offset);
        this.#unflushed = [];
      }
    }
  }

  /**
   * What a power cut at this moment leaves: everything that was flushed, and of the rest nothing,
   * all, the first writes, or any of their sectors.
   */
  afterPowerCut(random: SeededRandom): Buffer {
    const image = Buffer.from(this.#flushed);
    const how = random.int(4);
    const share = random.float();
    const first = random.int(this.#unflushed.length + 1);
    this.#unflushed.forEach(({ offset, bytes }, i) => {
      if (how === 0 || (how === 1 && i >= first)) return;
      for (let at = 0; at < bytes.length; at += SECTOR) {
        if (how === 2 && !random.chance(share)) continue;
        bytes.copy(image, offset + at, at, Math.min(at + SECTOR, bytes.length));
      }
    });
    return image;
  }
}
