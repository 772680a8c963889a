import { endOf, type PackEntry, type PackIndex } from "./pack-index.ts";

/**
 * What one consumer group has confirmed of a topic: everything before `next`, and behind it single
 * messages by one bit each, a bitmap a pack. A confirmation thus writes a few bytes, however much
 * was confirmed out of turn.
 */
export class Confirmed {
  readonly #index: PackIndex;
  readonly #bits = new Map<number, Uint8Array>();
  #next: number;
  #moved = false;

  constructor(next: number, index: PackIndex) {
    this.#next = next;
    this.#index = index;
  }

  /** Every message that is kept and has a smaller number is confirmed. */
  get next(): number {
    return this.#next;
  }

  has(seq: number, pack: PackEntry): boolean {
    if (seq < this.#next) return true;
    const at = seq - pack.first;
    return ((this.#bits.get(pack.first)?.[at >> 3] ?? 0) & (1 << (at & 7))) !== 0;
  }

  hasAll(pack: PackEntry): boolean {
    if (endOf(pack) <= this.#next) return true;
    const bits = this.#bits.get(pack.first);
    return bits !== undefined && countOf(bits) === pack.count;
  }

  /** How many of the pack are not confirmed. */
  missing(pack: PackEntry): number {
    if (endOf(pack) <= this.#next) return 0;
    return pack.count - countOf(this.#bits.get(pack.first) ?? NONE);
  }

  set(seq: number, pack: PackEntry): void {
    let bits = this.#bits.get(pack.first);
    if (!bits) {
      bits = new Uint8Array((pack.count + 7) >> 3);
      this.#bits.set(pack.first, bits);
    }
    const at = seq - pack.first;
    bits[at >> 3] = (bits[at >> 3] ?? 0) | (1 << (at & 7));
  }

  /** The confirmation could not be written: it was none. */
  unset(seq: number, pack: PackEntry): void {
    const bits = this.#bits.get(pack.first);
    const at = seq - pack.first;
    if (bits) bits[at >> 3] = (bits[at >> 3] ?? 0) & ~(1 << (at & 7));
  }

  /** As it is on disk; undefined for a pack of which nothing is confirmed. */
  bitsOf(pack: PackEntry): Uint8Array | undefined {
    return this.#bits.get(pack.first);
  }

  /** From the disk, at the start. */
  load(first: number, bits: Uint8Array): void {
    this.#bits.set(first, bits.slice());
  }

  /** The pack is gone from the topic. True when there was a bitmap of it. */
  forget(pack: PackEntry): boolean {
    return this.#bits.delete(pack.first);
  }

  /** Nothing is left to confirm up to the end of this pack. */
  pass(pack: PackEntry): void {
    if (endOf(pack) <= this.#next) return;
    this.#next = endOf(pack);
    this.#moved = true;
  }

  /** Whether `next` moved since this was asked last: then it is worth a record. */
  takeMoved(): boolean {
    const moved = this.#moved;
    this.#moved = false;
    return moved;
  }

  /** Moves `next` over what is confirmed in one piece; the packs whose bitmaps are not needed now. */
  advance(): readonly PackEntry[] {
    const passed: PackEntry[] = [];
    for (let pack = this.#index.from(this.#next); pack; pack = this.#index.from(this.#next)) {
      if (!this.hasAll(pack)) break;
      this.pass(pack);
      if (this.#bits.delete(pack.first)) passed.push(pack);
    }
    return passed;
  }
}

const NONE = new Uint8Array(0);

function countOf(bits: Uint8Array): number {
  let count = 0;
  for (const byte of bits) {
    for (let rest = byte; rest !== 0; rest &= rest - 1) count++;
  }
  return count;
}
