import type { Receipt } from "../core/message.ts";
import { Deque } from "./deque.ts";
import type { Entry, StoredRecord } from "./entry.ts";
import { isWhollyGone, LatestIndex } from "./latest.ts";
import type { ProducerNote } from "./producer-notes.ts";
import type { RecordTime } from "./record.ts";
import { entriesOf, type Run } from "./run.ts";
import { StoredQueue } from "./stored-queue.ts";

export interface LaneOptions {
  /** 1 is sent first. */
  readonly priority: number;
  readonly maxMessages: number;
  readonly maxBytes: number;
  /** Lifetime of a message without one of its own; 0 is none. */
  readonly ttlMs: number;
  readonly whenFull: "drop-oldest" | "refuse";
  /** Weight in draining among lanes of one priority; 1 where it is not set. */
  readonly share?: number;
  /** latest: a message replaces the one before it of the same key, unless that one is in flight. */
  readonly keep?: "all" | "latest";
  readonly payload?: "raw" | "cloudevents";
}

interface Remembered {
  readonly epoch: string;
  readonly seq: number;
  readonly receipt: Promise<Receipt>;
}

/** Producer ids remembered for safe retries. */
const REMEMBERED_PRODUCER_IDS = 4_096;

/**
 * The queues and the accounts of one lane. `messages` and `bytes` count everything that was put
 * and is neither settled nor dropped, `reserved` what is promised to messages to come.
 */
export class Lane {
  readonly name: string;
  readonly options: LaneOptions;
  messages = 0;
  bytes = 0;
  reservedMessages = 0;
  reservedBytes = 0;
  readonly dropped: Record<string, number> = {};

  /** Read back from disk, next to be sent. */
  readonly loaded = new Deque<Entry>();
  /** Read back too, after `loaded`, and not looked at one by one. */
  readonly runs = new Deque<Run>();
  /** On disk, after `loaded` and `runs`. */
  readonly stored = new StoredQueue(this);
  /** In memory, after `stored`; untaken or gone, never taken. */
  readonly tail = new Deque<Entry>();
  tailBytes = 0;
  /** While records are being read into `loaded`: one reader at a time, or they would mix. */
  loading: Promise<void> | undefined;
  /** After the disk did not give its records: not before this monotonic time again. */
  unreadableUntilMs = 0;
  /** Counts the staged messages that took their place; see `Entry.section`. */
  section = 0;

  /** Where the lane keeps only the latest message of a key. */
  readonly latest: LatestIndex | undefined;
  /** Messages that newer ones took the place of, since the process started. */
  replaced = 0;

  /** With the answer that was given, or that is waited for. */
  readonly #producerIds = new Map<string, Remembered>();

  constructor(name: string, options: LaneOptions) {
    this.name = name;
    this.options = options;
    this.latest = options.keep === "latest" ? new LatestIndex() : undefined;
  }

  hasRoomFor(messages: number, bytes: number): boolean {
    return (
      this.messages + this.reservedMessages + messages <= this.options.maxMessages &&
      this.bytes + this.reservedBytes + bytes <= this.options.maxBytes
    );
  }

  /** Whether there would be room if everything were dropped but what is reserved. */
  couldHold(messages: number, bytes: number): boolean {
    return (
      this.reservedMessages + messages <= this.options.maxMessages &&
      this.reservedBytes + bytes <= this.options.maxBytes
    );
  }

  countDropped(reason: string, messages: number): void {
    this.dropped[reason] = (this.dropped[reason] ?? 0) + messages;
  }

  /** True while the oldest untaken message is on disk only. */
  get mustLoad(): boolean {
    this.#skipGone(this.loaded);
    if (this.latest) this.#skipGoneRecords();
    if (this.loaded.length > 0 || this.runs.length > 0) return false;
    return this.stored.length > 0 || this.loading !== undefined;
  }

  /** What is next, where that is a run; `peek` would take it apart. */
  get headRun(): Run | undefined {
    this.#skipGone(this.loaded);
    return this.loaded.length === 0 ? this.runs.peek() : undefined;
  }

  /** When the oldest untaken message that memory or disk has was accepted. */
  get oldest(): RecordTime | undefined {
    const { acceptedAt } = this.loaded.peek() ?? {};
    const { record } = this.runs.peek() ?? {};
    return acceptedAt ?? record?.time ?? this.stored.peek()?.time ?? this.tail.peek()?.acceptedAt;
  }

  /** The oldest untaken message in memory, if it is next in order. */
  peek(): Entry | undefined {
    if (this.mustLoad) return undefined;
    if (this.loaded.length === 0) {
      const run = this.runs.shift();
      for (const entry of run ? entriesOf(run) : []) this.loaded.push(entry);
    }
    if (this.loaded.length > 0) return this.loaded.peek();
    this.#skipGone(this.tail);
    const head = this.tail.peek();
    return head?.held === true ? undefined : head;
  }

  shift(): Entry | undefined {
    if (this.peek() === undefined) return undefined;
    if (this.loaded.length > 0) return this.loaded.shift();
    const entry = this.tail.shift();
    if (entry) this.tailBytes -= entry.packet.length;
    return entry;
  }

  /** The oldest message that is not on disk alone; what is being read may be older. */
  shiftTail(): Entry | undefined {
    this.#skipGone(this.tail);
    const head = this.tail.peek();
    if (head?.place !== "stored") return undefined;
    this.tail.shift();
    this.tailBytes -= head.packet.length;
    return head;
  }

  append(entry: Entry): void {
    this.tail.push(entry);
    this.tailBytes += entry.packet.length;
  }

  /** Lets go from memory what is on disk at the head of the tail, down to `keepBytes`. */
  spill(keepBytes: number): void {
    this.#skipGone(this.tail);
    while (this.tailBytes > keepBytes) {
      const entry = this.tail.peek();
      if (!entry?.record || entry.place !== "stored") return;
      this.tail.shift();
      this.tailBytes -= entry.packet.length;
      entry.record.held &= ~(1 << entry.indexInRecord);
      entry.record.heldBytes -= entry.packet.length;
      this.latest?.spilled(entry);
      if (!entry.record.queued) {
        entry.record.queued = true;
        this.stored.push(entry.record);
      }
      this.#skipGone(this.tail);
    }
  }

  /** The oldest record of `stored`; what memory still holds of it may be spilled later. */
  shiftStored(): StoredRecord | undefined {
    const record = this.stored.shift();
    if (record) record.queued = false;
    return record;
  }

  unshiftStored(records: readonly StoredRecord[]): void {
    for (const record of records) {
      // Messages of it were spilled meanwhile: it is in the queue twice, and must stay one object.
      if (record.queued) record.pins++;
      record.queued = true;
    }
    this.stored.unshift(records);
  }

  /** The answer that a producer's id got before, among the last of this lane. */
  earlier(producerId: string): Promise<Receipt> | undefined {
    return this.#producerIds.get(producerId)?.receipt;
  }

  remember(producerId: string, epoch: string, seq: number, receipt: Promise<Receipt>): void {
    this.#producerIds.set(producerId, { epoch, seq, receipt });
    receipt.catch(() => this.#producerIds.delete(producerId)); // It may be tried again.
    if (this.#producerIds.size > REMEMBERED_PRODUCER_IDS) {
      const oldest = this.#producerIds.keys().next();
      if (!oldest.done) this.#producerIds.delete(oldest.value);
    }
  }

  /** What was replaced in the middle of a queue must not pile up behind a message that stays. */
  sweepReplaced(): void {
    const most = 64 + 2 * this.messages;
    if (this.stored.length > most) this.stored.filter((record) => !isWhollyGone(record));
    if (this.tail.length <= most) return;
    this.tailBytes = 0;
    this.tail.filter(({ place, packet }) => {
      if (place !== "gone") this.tailBytes += packet.length;
      return place !== "gone";
    });
  }

  get producerNotes(): ProducerNote[] {
    return Array.from(this.#producerIds, ([producerId, { epoch, seq }]) => {
      return { lane: this.name, producerId, epoch, seq };
    });
  }

  #skipGoneRecords(): void {
    for (let head = this.stored.peek(); head && isWhollyGone(head); head = this.stored.peek()) {
      this.shiftStored();
    }
  }

  #skipGone(queue: Deque<Entry>): void {
    for (let head = queue.peek(); head?.place === "gone"; head = queue.peek()) {
      queue.shift();
      if (queue === this.tail) this.tailBytes -= head.packet.length;
    }
  }
}
