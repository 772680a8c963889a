import type { IdRange } from "../core/message.ts";
import type { Entry, StoredRecord } from "./entry.ts";
import type { InFlightId } from "./port.ts";
import { entryAt, isSlice, maskOf, type Slice } from "./run.ts";

/** What is handed out at once: single messages and slices, in the order of sending. */
export type Taken = Entry | Slice;

/** Who is told what an acknowledgement is about. */
export interface Settling {
  entry(entry: Entry): void;
  /** `mask`: which messages of the slice's record. */
  slice(slice: Slice, mask: number): void;
}

/** Messages that the forwarder has and that are neither acknowledged nor handed back. */
export class InFlight {
  readonly #entries = new Map<string, Map<number, Entry>>();
  /** In the order of taking. */
  #slices: Slice[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(taken: readonly Taken[], nowMs: number): void {
    for (const item of taken) {
      item.takenMs = nowMs;
      if (isSlice(item)) {
        this.#slices.push(item);
        this.#size += item.count;
        continue;
      }
      item.taken = true;
      let ofEpoch = this.#entries.get(item.epoch);
      if (!ofEpoch) {
        ofEpoch = new Map();
        this.#entries.set(item.epoch, ofEpoch);
      }
      ofEpoch.set(item.seq, item);
      this.#size++;
    }
  }

  /** Takes out what is acknowledged; ids that are not in flight are ignored. Gives when one of it was taken. */
  settle(range: IdRange, settling: Settling): number | undefined {
    const wanted = range.to - range.from + 1;
    const ofSlices = this.#settleSlices(range, settling);
    let { takenMs } = ofSlices;
    if (ofSlices.count === wanted) return takenMs;
    const ofEpoch = this.#entries.get(range.epoch);
    for (let seq = range.from; ofEpoch && seq <= range.to; seq++) {
      const entry = ofEpoch.get(seq);
      if (!entry) continue;
      ofEpoch.delete(seq);
      this.#size--;
      takenMs = entry.takenMs;
      settling.entry(entry);
    }
    return takenMs;
  }

  #settleSlices(
    range: IdRange,
    settling: Settling,
  ): { readonly count: number; readonly takenMs: number | undefined } {
    const wanted = range.to - range.from + 1;
    let count = 0;
    let takenMs: number | undefined;
    let over = false;
    for (const slice of this.#slices) {
      if (count === wanted) break;
      const mask = slice.open & overlap(slice, range);
      if (mask === 0) continue;
      slice.open &= ~mask;
      takenMs = slice.takenMs;
      over ||= slice.open === 0;
      for (let rest = mask; rest !== 0; rest &= rest - 1) count++;
      settling.slice(slice, mask);
    }
    this.#size -= count;
    if (over) this.#dropEmpty();
    return { count, takenMs };
  }

  /** Takes one out by itself, unacknowledged. */
  remove({ epoch, seq }: InFlightId): Entry | undefined {
    const entry = this.#entries.get(epoch)?.get(seq) ?? this.#cutOut({ epoch, seq });
    if (!entry) return undefined;
    this.#entries.get(epoch)?.delete(seq);
    this.#size--;
    return entry;
  }

  /** The records that something in flight is part of. */
  *records(): Generator<StoredRecord> {
    for (const ofEpoch of this.#entries.values()) {
      for (const { record } of ofEpoch.values()) if (record) yield record;
    }
    for (const { run } of this.#slices) yield run.record;
  }

  #cutOut({ epoch, seq }: InFlightId): Entry | undefined {
    for (const slice of this.#slices) {
      const bit = slice.open & overlap(slice, { epoch, from: seq, to: seq });
      if (bit === 0) continue;
      slice.open &= ~bit;
      if (slice.open === 0) this.#dropEmpty();
      const entry = entryAt(slice.run, seq - slice.run.record.firstSeq);
      entry.taken = true;
      entry.takenMs = slice.takenMs;
      return entry;
    }
    return undefined;
  }

  #dropEmpty(): void {
    if (this.#slices[0]?.open === 0) this.#slices.shift();
    if (this.#slices.some(({ open }) => open === 0)) {
      this.#slices = this.#slices.filter(({ open }) => open !== 0);
    }
  }
}

/** Which messages of the slice's record the range names. */
function overlap({ run, from, count }: Slice, range: IdRange): number {
  const { epoch, firstSeq } = run.record;
  if (epoch !== range.epoch) return 0;
  const first = Math.max(from, range.from - firstSeq);
  const end = Math.min(from + count, range.to - firstSeq + 1);
  return end > first ? maskOf(first, end - first) : 0;
}
