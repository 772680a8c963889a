import { assert } from "../core/assert.ts";
import { isHoldfastError } from "../core/errors.ts";
import type { Codec, Store, Table, Write } from "../store/store.ts";
import { NumberRuns } from "./number-runs.ts";

/**
 * Which record numbers are gone, so that a hole in the numbers is damage and nothing else. Its
 * writes go into the same batch as the deletions they tell of.
 *
 * Numbers are kept in blocks of 1,024 bits. `through` is the number up to which everything is
 * gone, always a whole number of blocks; blocks at or under it are not kept. For records of which
 * some messages are gone a mask of 32 bits is kept until the record goes.
 *
 * One record that stays holds `through` back, while others come and go for months: blocks of which
 * everything is gone are kept in memory as runs, so it grows with what stays, not with what went.
 */
const BLOCK = 1_024;
/** Blocks that one commit passes with `through`: each is a deletion in it. */
const BLOCKS_PER_ADVANCE = 1_024;
const THROUGH_KEY = "through";
/** Behind blocks and masks, before `through`. */
const LAST_LISTED_KEY = "m\x7f";
const WHOLE = new Uint8Array(BLOCK / 8).fill(0xff);

const rawCodec: Codec<Uint8Array> = { encode: (value) => value, decode: (bytes) => bytes };

export class Ledger {
  readonly #table: Table<Uint8Array>;
  /** Those of which some numbers are gone, and some not. */
  readonly #blocks = new Map<number, Uint8Array>();
  readonly #wholeBlocks = new NumberRuns();
  readonly #masks = new Map<number, number>();
  #through = 0;
  readonly #dirtyBlocks = new Set<number>();
  readonly #dirtyMasks = new Set<number>();

  constructor(store: Pick<Store, "table">) {
    this.#table = store.table("ledger", rawCodec);
  }

  /** Every record with this number or a smaller one is gone. */
  get through(): number {
    return this.#through;
  }

  async load(): Promise<void> {
    const through = await this.#table.get(THROUGH_KEY).catch(nothingIfDamaged);
    if (through) this.#through = Buffer.from(through).readUIntBE(0, 6);
    // A range ends at the first key behind it, over however many deleted ones: `through` is one.
    const limit = Number.POSITIVE_INFINITY;
    for await (const [key, value] of this.#table.range({ lte: LAST_LISTED_KEY, limit })) {
      const number = Number.parseInt(key.slice(1), 16);
      if (key.startsWith("b")) this.#setBlock(number, new Uint8Array(value));
      else if (key.startsWith("m")) this.#masks.set(number, Buffer.from(value).readUInt32BE(0));
    }
  }

  /** The numbers up to `last` that are not known to be gone. */
  *present(last: number, first = 0): Generator<number> {
    for (let number = Math.max(first, this.#through + 1); number <= last; number++) {
      const whole = this.#wholeBlocks.lastOfRun(Math.floor((number - 1) / BLOCK));
      if (whole !== undefined) number = (whole + 1) * BLOCK;
      else if (!this.isGone(number)) yield number;
    }
  }

  /** The highest number that is known to be gone. */
  get highest(): number {
    let highest = Math.max(this.#through, ((this.#wholeBlocks.highest ?? -1) + 1) * BLOCK);
    for (const [block, bits] of this.#blocks) {
      const byte = bits.findLastIndex((value) => value !== 0);
      if (byte < 0) continue;
      const bit = 31 - Math.clz32(bits[byte] as number);
      highest = Math.max(highest, block * BLOCK + byte * 8 + bit + 1);
    }
    return highest;
  }

  isGone(recordNumber: number): boolean {
    if (recordNumber <= this.#through) return true;
    const { block, byte, bit } = place(recordNumber);
    const bits = this.#blocks.get(block);
    return bits ? ((bits[byte] as number) & bit) !== 0 : this.#wholeBlocks.has(block);
  }

  /** Bit i is set when message i of the record is gone. */
  mask(recordNumber: number): number {
    return this.#masks.get(recordNumber) ?? 0;
  }

  markMessages(recordNumber: number, mask: number): void {
    this.#masks.set(recordNumber, mask);
    this.#dirtyMasks.add(recordNumber);
  }

  markRecord(recordNumber: number): void {
    assert(!this.isGone(recordNumber), "a record goes once");
    const { block, byte, bit } = place(recordNumber);
    const bits = this.#blocks.get(block) ?? new Uint8Array(BLOCK / 8);
    bits[byte] = (bits[byte] as number) | bit;
    if (bits[byte] === 0xff) this.#setBlock(block, bits);
    else this.#blocks.set(block, bits);
    this.#dirtyBlocks.add(block);
    if (this.#masks.delete(recordNumber)) this.#dirtyMasks.add(recordNumber);
  }

  /** The changes since the last call; the caller keeps them until a commit took them. */
  takeWrites(): Write[] {
    const writes = [...this.#advanceThrough()];
    for (const block of this.#dirtyBlocks) {
      const bits = this.#blocks.get(block);
      if (bits) writes.push(this.#table.put(blockKey(block), bits.slice()));
      else if (this.#wholeBlocks.has(block)) writes.push(this.#table.put(blockKey(block), WHOLE));
    }
    for (const number of this.#dirtyMasks) {
      const mask = this.#masks.get(number);
      const key = `m${hex(number)}`;
      writes.push(mask === undefined ? this.#table.del(key) : this.#table.put(key, u32(mask)));
    }
    this.#dirtyBlocks.clear();
    this.#dirtyMasks.clear();
    return writes;
  }

  #setBlock(block: number, bits: Uint8Array): void {
    if (bits.every((byte) => byte === 0xff)) {
      this.#blocks.delete(block);
      this.#wholeBlocks.add(block);
    } else this.#blocks.set(block, bits);
  }

  #advanceThrough(): Write[] {
    const writes: Write[] = [];
    while (writes.length < BLOCKS_PER_ADVANCE) {
      const block = this.#through / BLOCK;
      if (!this.#wholeBlocks.has(block)) break;
      this.#through += BLOCK;
      this.#wholeBlocks.deleteFirst(block);
      writes.push(this.#table.del(blockKey(block)));
    }
    if (writes.length > 0) {
      const value = Buffer.alloc(6);
      value.writeUIntBE(this.#through, 0, 6);
      writes.push(this.#table.put(THROUGH_KEY, value));
    }
    return writes;
  }
}

/** Fixed width, so that keys sort as their numbers. */
export function hex(value: number): string {
  return value.toString(16).padStart(12, "0");
}

function nothingIfDamaged(error: unknown): undefined {
  if (!isHoldfastError(error, "store_damaged")) throw error;
  return undefined;
}

function blockKey(block: number): string {
  return `b${hex(block)}`;
}

function place(recordNumber: number): { block: number; byte: number; bit: number } {
  const index = recordNumber - 1;
  const inBlock = index % BLOCK;
  return { block: Math.floor(index / BLOCK), byte: inBlock >> 3, bit: 1 << (inBlock & 7) };
}

function u32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}
