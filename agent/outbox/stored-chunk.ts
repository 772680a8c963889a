import type { StoredRecord } from "./entry.ts";
import type { Lane } from "./lane.ts";

/** Records in one chunk: 112 KiB, which are given back when the last of them is shifted. */
const CHUNK_RECORDS = 4_096;
const FIRST_RECORDS = 64;
/**
 * Words of 32 bits for each record: number, bytes, gone, microseconds of monotonic time, milliseconds
 * of wall time, first seq, and one of three parts: count less 1 (5 bits), frame (11), seqs from the
 * first to the last (16). Numbers are offsets from the chunk's first, times and seqs from the frame's.
 */
const WORDS = 7;
const MOST_FRAMES = 2_048;
/** The seqs of this record are in `spans`. */
const WIDE_SPAN = 0xffff;
const MOST_OFFSET = 0x7fff_ffff;

/** What neighbours have in common: a process of the agent, and a time to count from. */
interface Frame {
  readonly epoch: string;
  readonly bootId: string;
  readonly trusted: boolean;
  readonly monotonicUs: number;
  readonly wallMs: number;
  readonly seq: number;
}

/** A piece of a `StoredQueue`: filled from the front, emptied from the front, once. */
export class StoredChunk {
  readonly #lane: Lane;
  readonly #firstNumber: number;
  readonly #frames: Frame[] = [];
  readonly #spans = new Map<number, number>();
  /** Of records that are not packed, by their place. */
  readonly #objects = new Map<number, StoredRecord>();
  #words = new Int32Array(FIRST_RECORDS * WORDS);
  #lastFrame = 0;
  #head = 0;
  #end = 0;

  constructor(lane: Lane, firstNumber: number) {
    this.#lane = lane;
    this.#firstNumber = firstNumber;
  }

  get length(): number {
    return this.#end - this.#head;
  }

  /** False: it does not fit in here. */
  push(record: StoredRecord, packed: boolean): boolean {
    if (this.#end === CHUNK_RECORDS) return false;
    if (!packed) {
      this.#objects.set(this.#end, record);
      this.#grow();
      this.#end++;
      return true;
    }
    const number = record.number - this.#firstNumber;
    if (Math.abs(number) > MOST_OFFSET) return false;
    const frame = this.#frameOf(record);
    if (frame < 0) return false;
    this.#grow();
    this.#write(record, number, frame);
    this.#end++;
    return true;
  }

  shift(): StoredRecord | undefined {
    if (this.length === 0) return undefined;
    const place = this.#head++;
    const record = this.#objects.get(place);
    if (!record) return this.#read(place);
    this.#objects.delete(place);
    return record;
  }

  #write(record: StoredRecord, number: number, frame: number): void {
    const words = this.#words;
    const at = this.#end * WORDS;
    const { monotonicUs, wallMs, seq } = this.#frames[frame] as Frame;
    const span = record.lastSeq - record.firstSeq;
    const isWide = span < 0 || span >= WIDE_SPAN;
    if (isWide) this.#spans.set(this.#end, span);
    words[at] = number;
    words[at + 1] = record.bytes;
    words[at + 2] = record.gone;
    words[at + 3] = toUs(record.time.monotonicMs) - monotonicUs;
    words[at + 4] = Math.round(record.time.wallMs) - wallMs;
    words[at + 5] = record.firstSeq - seq;
    words[at + 6] = (record.count - 1) | (frame << 5) | ((isWide ? WIDE_SPAN : span) << 16);
  }

  #read(place: number): StoredRecord {
    const words = this.#words;
    const at = place * WORDS;
    const parts = words[at + 6] as number;
    const frame = this.#frames[(parts >>> 5) & (MOST_FRAMES - 1)] as Frame;
    const { epoch, bootId, trusted } = frame;
    const firstSeq = frame.seq + (words[at + 5] as number);
    const span = parts >>> 16;
    const wide = span === WIDE_SPAN ? this.#spans.get(place) : undefined;
    const monotonicMs = (frame.monotonicUs + (words[at + 3] as number)) / 1_000;
    const wallMs = frame.wallMs + (words[at + 4] as number);
    return {
      lane: this.#lane,
      number: this.#firstNumber + (words[at] as number),
      count: (parts & 31) + 1,
      bytes: (words[at + 1] as number) >>> 0,
      gone: words[at + 2] as number,
      held: 0,
      heldBytes: 0,
      queued: true,
      pins: 0,
      time: { bootId, monotonicMs, wallMs, trusted },
      epoch,
      firstSeq,
      lastSeq: firstSeq + (wide ?? span),
    };
  }

  /** The place of a frame that this record can be told in; -1: there is no room for one more. */
  #frameOf(record: StoredRecord): number {
    const last = this.#frames[this.#lastFrame];
    if (last && fits(record, last)) return this.#lastFrame;
    let place = this.#frames.findLastIndex((frame) => fits(record, frame));
    if (place < 0) {
      if (this.#frames.length === MOST_FRAMES) return -1;
      place = this.#frames.push(frameFrom(record)) - 1;
    }
    this.#lastFrame = place;
    return place;
  }

  #grow(): void {
    if ((this.#end + 1) * WORDS <= this.#words.length) return;
    const larger = new Int32Array(this.#words.length * 2);
    larger.set(this.#words);
    this.#words = larger;
  }
}

function frameFrom({ epoch, time, firstSeq }: StoredRecord): Frame {
  const { bootId, trusted, monotonicMs, wallMs } = time;
  const from = { monotonicUs: toUs(monotonicMs), wallMs: Math.round(wallMs), seq: firstSeq };
  return { epoch, bootId, trusted, ...from };
}

function fits({ epoch, time, firstSeq }: StoredRecord, frame: Frame): boolean {
  return (
    epoch === frame.epoch &&
    time.bootId === frame.bootId &&
    time.trusted === frame.trusted &&
    Math.abs(toUs(time.monotonicMs) - frame.monotonicUs) <= MOST_OFFSET &&
    Math.abs(Math.round(time.wallMs) - frame.wallMs) <= MOST_OFFSET &&
    Math.abs(firstSeq - frame.seq) <= MOST_OFFSET
  );
}

/** Clocks tell no more than microseconds. */
function toUs(ms: number): number {
  return Math.round(ms * 1_000);
}
