/** What is known in memory of one pack of a topic. */
export interface PackEntry {
  /** The number of its first message; the others follow without a gap. */
  readonly first: number;
  readonly count: number;
  /** What it costs on disk, about. */
  readonly bytes: number;
  /** The age of the service when it was made. */
  readonly keptAt: number;
  readonly tags: readonly string[];
}

/**
 * The packs of one topic in the order of their numbers. Nearly always one is added at the end or
 * taken at the head; what is confirmed out of turn goes from the middle.
 */
export class PackIndex {
  #packs: PackEntry[] = [];
  #head = 0;
  #messages = 0;
  #bytes = 0;

  get messages(): number {
    return this.#messages;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get first(): PackEntry | undefined {
    return this.#packs[this.#head];
  }

  add(pack: PackEntry): void {
    this.#packs.push(pack);
    this.#messages += pack.count;
    this.#bytes += pack.bytes;
  }

  /** The pack that holds this number. */
  find(seq: number): PackEntry | undefined {
    const at = this.#after(seq) - 1;
    const pack = at < this.#head ? undefined : this.#packs[at];
    return pack && seq < endOf(pack) ? pack : undefined;
  }

  /** The pack that holds this number, or the first one behind it. */
  from(seq: number): PackEntry | undefined {
    return this.find(seq) ?? this.#packs[this.#after(seq)];
  }

  remove(pack: PackEntry): void {
    const at = this.#after(pack.first) - 1;
    if (this.#packs[at] !== pack || at < this.#head) return;
    this.#messages -= pack.count;
    this.#bytes -= pack.bytes;
    if (at > this.#head) {
      this.#packs.splice(at, 1);
      return;
    }
    this.#head++;
    if (this.#head > 1_024 && this.#head * 2 > this.#packs.length) {
      this.#packs = this.#packs.slice(this.#head);
      this.#head = 0;
    }
  }

  /** The place of the first pack that begins behind `seq`. */
  #after(seq: number): number {
    let low = this.#head;
    let high = this.#packs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#packs[middle] as PackEntry).first <= seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The number behind its last message. */
export function endOf(pack: PackEntry): number {
  return pack.first + pack.count;
}
