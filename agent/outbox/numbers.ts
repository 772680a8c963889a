const BLOCK_BYTES = 1_024;
const BLOCK = BLOCK_BYTES * 8;

/** A set of record numbers, one bit each: a million records cost 125 KB while they are listed. */
export class NumberSet {
  readonly #blocks = new Map<number, Uint8Array>();
  highest = 0;

  add(number: number): void {
    const index = Math.floor(number / BLOCK);
    let block = this.#blocks.get(index);
    if (!block) {
      block = new Uint8Array(BLOCK_BYTES);
      this.#blocks.set(index, block);
    }
    const at = number % BLOCK;
    block[at >> 3] = (block[at >> 3] as number) | (1 << (at & 7));
    this.highest = Math.max(this.highest, number);
  }

  has(number: number): boolean {
    const at = number % BLOCK;
    const byte = this.#blocks.get(Math.floor(number / BLOCK))?.[at >> 3] ?? 0;
    return (byte & (1 << (at & 7))) !== 0;
  }
}
