import type { StoredRecord } from "./entry.ts";

/** So many records are looked at together; a staged message is not further from its place. */
const WAITING = 1_024;

/**
 * Gives the listed records of a lane on in the order in which their messages were put.
 *
 * That is not quite the order of their numbers: a staged message is on disk with its caller's commit,
 * while those put before it may still wait for theirs. The messages of a process are numbered in the
 * order of `put` and `stage`, and no record mixes what was put before a staged one took its place
 * with what came after; so the first number of each record tells.
 */
export class StreamOrder {
  readonly #next: (record: StoredRecord) => void;
  #waiting: StoredRecord[] = [];

  constructor(next: (record: StoredRecord) => void) {
    this.#next = next;
  }

  /** The next one in the order of record numbers. */
  add(record: StoredRecord): void {
    let at = this.#waiting.length;
    while (at > 0 && comesBefore(record, this.#waiting[at - 1] as StoredRecord)) at--;
    this.#waiting.splice(at, 0, record);
    if (this.#waiting.length >= 2 * WAITING) this.#giveOn(WAITING);
  }

  /** There are no more. */
  end(): void {
    this.#giveOn(this.#waiting.length);
  }

  #giveOn(count: number): void {
    for (const record of this.#waiting.slice(0, count)) this.#next(record);
    this.#waiting = this.#waiting.slice(count);
  }
}

function comesBefore(one: StoredRecord, other: StoredRecord): boolean {
  return one.epoch === other.epoch && one.firstSeq < other.firstSeq;
}
