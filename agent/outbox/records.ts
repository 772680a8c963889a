import type { Logger } from "../core/log.ts";
import { messageId } from "../core/message.ts";
import { decodePublish } from "../core/publish-packet.ts";
import type { Codec, Store, Table, Write } from "../store/store.ts";
import type { Entry, StoredRecord } from "./entry.ts";
import type { Lane } from "./lane.ts";
import { indexPins, isWhollyGone } from "./latest.ts";
import { hex, Ledger } from "./ledger.ts";
import { type Found, Listing } from "./listing.ts";
import type { Loss } from "./losses.ts";
import { allOf, bits } from "./masks.ts";
import type { OutboxPage, WaitingMessage } from "./port.ts";
import { type Content, readRecords } from "./read-records.ts";
import {
  decodeRecord,
  encodeRecord,
  type OutboxRecord,
  type PlainRecord,
  type RecordMessage,
} from "./record.ts";
import { entryAt, packetBytes, type Run, type Slice } from "./run.ts";

const rawCodec: Codec<Uint8Array> = { encode: (value) => value, decode: (bytes) => bytes };
/** What one look at the disk reads for a lane: so many records, or fewer when they are large. */
const RECORDS_PER_READ = 48;
const READ_BYTES = 1_048_576;
const CURSOR = /^([^/]+)\/([0-9a-f]{12})\/(\d{1,2})$/;

/** Messages of one record that were let go unread; where some were gone, the ends are the record's. */
export interface Dropped {
  readonly record: StoredRecord;
  readonly mask: number;
  readonly loss: Omit<Loss, "lane" | "reason">;
}

/** The records of the outbox on disk: making, listing, reading, letting go. */
export class Records {
  readonly ledger: Ledger;
  readonly #table: Table<Uint8Array>;
  readonly #store: Store;
  readonly #log: Logger;

  constructor(store: Store, log: Logger) {
    this.#table = store.table("outbox", rawCodec);
    this.ledger = new Ledger(store);
    this.#store = store;
    this.#log = log;
  }

  /** Lists what is on disk into the lanes, in the order of record numbers. */
  async load(what: ConstructorParameters<typeof Listing>[0]): Promise<Found> {
    await this.ledger.load();
    this.#store.noteNumber(this.ledger.highest);
    const deps = { table: this.#table, ledger: this.ledger, store: this.#store, log: this.#log };
    return new Listing(what, deps).run();
  }

  /** The write of one record with these messages of one lane, which become its entries. */
  write(
    entries: readonly Entry[],
    epoch: string,
    onNumbered: (number: number) => void = () => undefined,
  ): Write {
    const first = entries[0] as Entry;
    const time = first.acceptedAt;
    const messages = entries.map((entry) => ({
      seq: entry.seq,
      offsetMs: entry.acceptedAt.monotonicMs - time.monotonicMs,
      ttlMs: entry.ttlMs,
      key: entry.key,
      producerId: entry.producerId,
      packet: entry.packet,
    }));
    const packetBytes = entries.reduce((sum, { packet }) => sum + packet.length, 0);
    return this.#table.putNumbered((number) => {
      const record: StoredRecord = {
        lane: first.lane,
        number,
        count: entries.length,
        bytes: packetBytes,
        gone: 0,
        held: allOf(entries.length),
        heldBytes: packetBytes,
        queued: false,
        pins: indexPins(first.lane, entries),
        time,
        epoch,
        firstSeq: first.seq,
        lastSeq: (entries.at(-1) as Entry).seq,
      };
      entries.forEach((entry, index) => {
        entry.record = record;
        entry.indexInRecord = index;
      });
      onNumbered(number);
      return {
        key: `${first.lane.name}/${hex(number)}`,
        value: encodeRecord(number, epoch, time, messages),
      };
    });
  }

  /**
   * Reads the next records of a lane. What is damaged or missing is counted and let go; when the
   * disk cannot be read now, nothing is and it throws.
   */
  async read(
    lane: Lane,
  ): Promise<{ entries: readonly Entry[]; runs: readonly Run[]; damaged: readonly Dropped[] }> {
    const batch: StoredRecord[] = [];
    let bytes = 0;
    while (batch.length < RECORDS_PER_READ && bytes < READ_BYTES) {
      const record = lane.shiftStored();
      if (!record) break;
      // One that is pinned may be in the queue twice, see `Lane.unshiftStored`.
      if (isWhollyGone(record) || (record.pins > 0 && batch.includes(record))) continue;
      record.pins++;
      batch.push(record);
      bytes += record.bytes;
    }
    let read: (Content | undefined)[];
    try {
      read = await readRecords(this.#table, batch, this.#log);
    } catch (error) {
      lane.unshiftStored(batch);
      throw error;
    } finally {
      for (const record of batch) record.pins--;
    }
    const found: { stored: StoredRecord; content: Content }[] = [];
    const damaged: Dropped[] = [];
    batch.forEach((stored, i) => {
      const content = read[i];
      if (content) {
        found.push({ stored, content });
        return;
      }
      const dropped = this.dropUnheld(stored);
      if (dropped.loss.messages === 0) return; // All of it was let go while it was read.
      this.#log.error("record not readable", { lane: lane.name, number: stored.number });
      damaged.push(dropped);
    });
    const runs = lane.latest ? undefined : toRuns(found);
    if (runs) return { entries: [], runs, damaged };
    const entries = found.flatMap(({ stored, content }) => toEntries(stored, content));
    return { entries, runs: [], damaged };
  }

  /** These messages of a run are settled. */
  settleSlice(slice: Slice, mask: number): void {
    const { run } = slice;
    const { record } = run;
    let bytes = 0;
    for (let index = slice.from; index < slice.from + slice.count; index++) {
      if ((mask & (1 << index)) !== 0) bytes += packetBytes(run, index);
    }
    record.gone |= mask;
    record.held &= ~mask;
    record.heldBytes -= bytes;
    record.bytes -= bytes;
    record.lane.messages -= bits(mask);
    record.lane.bytes -= bytes;
  }

  markGone(entry: Entry, record: StoredRecord): void {
    record.gone |= 1 << entry.indexInRecord;
    record.held &= ~(1 << entry.indexInRecord);
    record.heldBytes -= entry.packet.length;
    record.bytes -= entry.packet.length;
  }

  /** A newer message took the place of this one, which memory does not hold. */
  dropOne(record: StoredRecord, index: number, bytes: number): void {
    record.gone |= 1 << index;
    record.bytes -= bytes;
    record.lane.messages--;
    record.lane.bytes -= bytes;
  }

  /** Lets go of every message of the record that memory does not hold. */
  dropUnheld(record: StoredRecord): Dropped {
    const dropped = allOf(record.count) & ~record.gone & ~record.held;
    const messages = bits(dropped);
    const bytes = record.bytes - record.heldBytes;
    record.gone |= dropped;
    record.bytes -= bytes;
    record.lane.messages -= messages;
    record.lane.bytes -= bytes;
    const end = (seq: number) => ({
      id: messageId(record.epoch, seq),
      at: Math.round(record.time.wallMs),
    });
    const ends = { from: end(record.firstSeq), to: end(record.lastSeq) };
    return { record, mask: dropped, loss: { messages, bytes, ...ends, exact: true } };
  }

  /**
   * Messages on disk that are not gone, lane by lane in order. A cursor names the last message of
   * the page before: `<lane>/<record number>/<place in the record>`.
   */
  async page(cursor: string | undefined, limit: number): Promise<OutboxPage> {
    const [, lane = "", number = "", place = ""] = CURSOR.exec(cursor ?? "") ?? [];
    const from = { key: `${lane}/${number}`, place: Number(place) };
    // From the record before: the page before may have ended inside this one.
    const gt = lane === "" ? "" : `${lane}/${hex(Math.max(0, Number.parseInt(number, 16) - 1))}`;
    const items: WaitingMessage[] = [];
    for await (const [key, value] of this.#table.range({ gt, limit: Number.POSITIVE_INFINITY })) {
      const record = decodeRecord(value);
      const gone = this.ledger.mask(record.number);
      for (const [index, message] of record.messages.entries()) {
        if ((key === from.key && index <= from.place) || (gone & (1 << index)) !== 0) continue;
        items.push(describe(laneName(key), record, message));
        if (items.length === limit) return { items, next: `${key}/${index}` };
      }
    }
    return { items, next: null };
  }

  /** The deletion of a record, to be committed with the ledger's writes. */
  remove(record: StoredRecord): Write {
    this.ledger.markRecord(record.number);
    return this.#table.del(`${record.lane.name}/${hex(record.number)}`);
  }
}

function describe(lane: string, record: OutboxRecord, message: RecordMessage): WaitingMessage {
  const { topic, payload } = decodePublish(message.packet);
  return {
    id: messageId(record.epoch, message.seq),
    lane,
    topic,
    bytes: payload.length,
    at: Math.round(record.time.wallMs + message.offsetMs),
  };
}

/** Undefined when one of the records is not to be had in one piece. */
function toRuns(
  found: readonly { readonly stored: StoredRecord; readonly content: Content }[],
): Run[] | undefined {
  const whole = found.every(({ stored, content }) => {
    return "packetStarts" in content && stored.gone === 0 && stored.held === 0;
  });
  if (!whole) return undefined;
  return found.map(({ stored, content }) => hold(stored, content as PlainRecord));
}

/** From here on memory holds all of the record that is not gone. */
function hold(record: StoredRecord, content: PlainRecord): Run {
  record.held = allOf(record.count);
  record.heldBytes = content.packetBytes;
  return { record, content, next: 0 };
}

/** Of those that are neither gone nor in memory. */
function toEntries(stored: StoredRecord, content: Content): Entry[] {
  const entries: Entry[] = [];
  for (let index = 0; index < stored.count; index++) {
    const bit = 1 << index;
    if (((stored.gone | stored.held) & bit) !== 0) continue;
    const entry =
      "messages" in content
        ? entryOf(stored, content, index)
        : entryAt({ record: stored, content, next: 0 }, index);
    stored.held |= bit;
    stored.heldBytes += entry.packet.length;
    entries.push(entry);
  }
  return entries;
}

function entryOf(stored: StoredRecord, { epoch, messages }: OutboxRecord, index: number): Entry {
  const { seq, packet, ttlMs, key, producerId, offsetMs } = messages[index] as RecordMessage;
  const { monotonicMs, wallMs } = stored.time;
  const acceptedAt = {
    ...stored.time,
    monotonicMs: monotonicMs + offsetMs,
    wallMs: wallMs + offsetMs,
  };
  return {
    ...{ epoch, seq, lane: stored.lane, packet, ttlMs, key, producerId, acceptedAt },
    ...{ place: "stored", taken: false, takenMs: 0, record: stored, indexInRecord: index },
    ...{ section: 0, waiting: undefined },
  };
}

function laneName(key: string): string {
  return key.slice(0, key.indexOf("/"));
}
