import { Deque } from "./deque.ts";
import type { StoredRecord } from "./entry.ts";
import type { Lane } from "./lane.ts";
import { StoredChunk } from "./stored-chunk.ts";

/**
 * The records of a lane that wait on disk, oldest first: as `Deque<StoredRecord>`, but a record that
 * nobody else refers to takes 28 bytes outside of the heap. Callers that put one message after the
 * other make a record of each; a million of them as objects would be 260 MB.
 *
 * A record is packed when the next one is pushed behind it, unless memory holds messages of it or it
 * is pinned: then it stays the object that others know. Those are few: messages held behind a pushed
 * record are in flight, and pinned are the records that are being read and those of keyed messages in
 * a lane that keeps the latest. What is packed becomes an object again when it is looked at.
 */
export class StoredQueue {
  readonly #lane: Lane;
  /** Put back, or looked at. */
  readonly #front = new Deque<StoredRecord>();
  readonly #chunks = new Deque<StoredChunk>();
  #newestChunk: StoredChunk | undefined;
  #chunked = 0;
  /** Pushed last: its messages may still be spilled one by one. */
  #last: StoredRecord | undefined;

  constructor(lane: Lane) {
    this.#lane = lane;
  }

  get length(): number {
    return this.#front.length + this.#chunked + (this.#last ? 1 : 0);
  }

  push(record: StoredRecord): void {
    if (this.#last) this.#keep(this.#last);
    this.#last = record;
  }

  /** Puts records back in front, in their order. */
  unshift(records: readonly StoredRecord[]): void {
    this.#front.unshift(records);
  }

  /** Changes of the object that it gives are changes of the queue. */
  peek(): StoredRecord | undefined {
    if (this.#front.length === 0) {
      const record = this.#shiftChunked();
      if (record) this.#front.push(record);
    }
    return this.#front.peek() ?? this.#last;
  }

  shift(): StoredRecord | undefined {
    const record = this.#front.shift() ?? this.#shiftChunked();
    if (record) return record;
    const last = this.#last;
    this.#last = undefined;
    return last;
  }

  /** Leaves only what `keep` says, in its order. */
  filter(keep: (record: StoredRecord) => boolean): void {
    for (let left = this.length; left > 0; left--) {
      const record = this.shift() as StoredRecord;
      if (keep(record)) this.push(record);
    }
  }

  #keep(record: StoredRecord): void {
    const packed = record.held === 0 && record.pins === 0;
    if (!this.#newestChunk?.push(record, packed)) {
      this.#newestChunk = new StoredChunk(this.#lane, record.number);
      this.#chunks.push(this.#newestChunk);
      this.#newestChunk.push(record, packed);
    }
    this.#chunked++;
  }

  #shiftChunked(): StoredRecord | undefined {
    const chunk = this.#chunks.peek();
    const record = chunk?.shift();
    if (!record) return undefined;
    this.#chunked--;
    if (chunk?.length === 0) {
      this.#chunks.shift();
      if (chunk === this.#newestChunk) this.#newestChunk = undefined;
    }
    return record;
  }
}
