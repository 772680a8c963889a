import { crc32 } from "node:zlib";
import type { VolatileLog } from "../store/store.ts";
import type { LossReason } from "./losses.ts";

/**
 * Which messages were settled or let go, as notes of 12 bytes in a log that survives a kill of the process:
 * u48 record number, u32 mask of the messages that are gone, u16 check. The database learns of
 * settlements only once a second; without the notes a kill would repeat all of that.
 */
const NOTE_BYTES = 12;
/**
 * What a policy let go is noted with the place of the reason here, from 1, above 44 bits of the
 * number: after a kill it must be counted again, which what was settled must not.
 */
const WHYS = ["full", "ttl", "quota", "damage", "quarantine", "replaced"] as const;
const NUMBERS = 2 ** 44;
/** Above the number: what was noted of it so far is void. */
const VOID = 15;

/** Messages of one record that were let go: a loss, or not, because a newer one replaced them. */
export interface LetGo {
  readonly why: LossReason | "replaced";
  readonly mask: number;
}

export interface Noted {
  /** By record, all that is gone. */
  readonly masks: ReadonlyMap<number, number>;
  /** By record, what of it was let go. */
  readonly letGo: ReadonlyMap<number, readonly LetGo[]>;
}

export class SettleNotes {
  readonly #log: VolatileLog;
  /** By record (and reason): the messages of a record are mostly settled together. */
  #waiting = new Map<number, number>();

  constructor(log: VolatileLog) {
    this.#log = log;
  }

  /** What earlier processes noted, by record; a torn or damaged note is left out. */
  read(): Noted {
    const bytes = Buffer.from(this.#log.read());
    const masks = new Map<number, number>();
    const letGo = new Map<number, LetGo[]>();
    for (let at = 0; at + NOTE_BYTES <= bytes.length; at += NOTE_BYTES) {
      const note = bytes.subarray(at, at + NOTE_BYTES);
      if (note.readUInt16BE(10) !== check(note)) break; // What follows a torn one is out of step.
      const number = note.readUIntBE(0, 6) % NUMBERS;
      const kind = Math.floor(note.readUIntBE(0, 6) / NUMBERS);
      if (kind === VOID) {
        masks.delete(number);
        letGo.delete(number);
        continue;
      }
      const why = WHYS[kind - 1];
      const mask = note.readUInt32BE(6);
      masks.set(number, (masks.get(number) ?? 0) | mask);
      if (why) letGo.set(number, [...(letGo.get(number) ?? []), { why, mask }]);
    }
    return { masks, letGo };
  }

  add(number: number, mask: number): void {
    this.#waiting.set(number, (this.#waiting.get(number) ?? 0) | mask);
  }

  addLetGo(number: number, { why, mask }: LetGo): void {
    this.add(number + (WHYS.indexOf(why) + 1) * NUMBERS, mask);
  }

  /** The records with these numbers were not written; others will get the numbers. */
  void(numbers: Iterable<number>): void {
    this.flush();
    for (const number of numbers) this.add(number + VOID * NUMBERS, 0);
    this.flush();
  }

  /** One write for all that was added. */
  flush(): void {
    if (this.#waiting.size === 0) return;
    const bytes = Buffer.allocUnsafe(this.#waiting.size * NOTE_BYTES);
    let at = 0;
    for (const [number, mask] of this.#waiting) {
      const note = bytes.subarray(at, at + NOTE_BYTES);
      note.writeUIntBE(number, 0, 6);
      note.writeUInt32BE(mask >>> 0, 6);
      note.writeUInt16BE(check(note), 10);
      at += NOTE_BYTES;
    }
    this.#waiting.clear();
    this.#log.append(bytes);
  }

  /**
   * Drops everything that earlier processes noted and keeps what was added since: a state folder
   * that was put back from a copy gives its record numbers a second time.
   */
  restart(): void {
    this.#log.begin();
    this.#log.commit();
    this.#log.begin();
    this.flush();
    this.#log.commit();
  }

  /** All that was noted is about to be committed; `committed` when it was. */
  begin(): void {
    this.flush();
    this.#log.begin();
  }

  committed(): void {
    this.#log.commit();
  }
}

function check(note: Uint8Array): number {
  return crc32(note.subarray(0, 10)) & 0xffff;
}
