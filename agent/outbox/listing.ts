import { describeError, isHoldfastError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { messageId } from "../core/message.ts";
import type { Store, Table } from "../store/store.ts";
import type { StoredRecord } from "./entry.ts";
import type { Lane } from "./lane.ts";
import { indexPins, type LatestIndex } from "./latest.ts";
import { hex, type Ledger } from "./ledger.ts";
import type { GapEnd, Loss } from "./losses.ts";
import { allOf, bits } from "./masks.ts";
import { NumberSet } from "./numbers.ts";
import { decodeRecord, decodeRecordSummary, type OutboxRecord } from "./record.ts";
import type { LetGo, Noted } from "./settle-notes.ts";
import { StreamOrder } from "./stream-order.ts";

/** What a start finds besides the records in the lanes. */
export interface Found {
  /** Records that lost messages of which the ledger does not know yet. */
  readonly changed: readonly { readonly record: StoredRecord; readonly letGo: readonly LetGo[] }[];
  /** Losses that no counter on disk has yet. */
  readonly losses: readonly Loss[];
}

/** The longest run of missing numbers that is looked at; a hole like this is no hole any more. */
const MOST_MISSING = 1_000_000;
/** So many keys at most are looked up one by one instead of stepping through the lanes. */
const FEW_LOOKUPS = 64;

/**
 * Lists the records on disk into their lanes, in the order of their numbers, and finds what is
 * missing: a number that is neither listed nor in the ledger was damaged or lost.
 *
 * What was settled or let go by a process that was killed is in the notes; what was let go is
 * counted now, because the counter of that process was never written.
 */
export class Listing {
  readonly #table: Table<Uint8Array>;
  readonly #ledger: Ledger;
  readonly #store: Store;
  readonly #log: Logger;
  readonly #laneOf: (name: string) => Lane;
  readonly #noted: Noted;
  readonly #known: readonly string[];
  readonly #seen = new NumberSet();
  readonly #orders = new Map<Lane, StreamOrder>();
  readonly #changed: { record: StoredRecord; letGo: readonly LetGo[] }[] = [];
  readonly #losses: Loss[] = [];
  /** One string for all records of an epoch. */
  readonly #epochs = new Map<string, string>();

  constructor(
    what: {
      /** Makes the lane where it is not known. */
      readonly laneOf: (name: string) => Lane;
      /** The lanes of the configuration. */
      readonly known: readonly string[];
      readonly noted: Noted;
    },
    deps: {
      readonly table: Table<Uint8Array>;
      readonly ledger: Ledger;
      readonly store: Store;
      readonly log: Logger;
    },
  ) {
    this.#laneOf = what.laneOf;
    this.#noted = what.noted;
    // As their keys are ordered: a name ends with a slash there.
    this.#known = what.known.toSorted((a, b) => (`${a}/` < `${b}/` ? -1 : 1));
    this.#table = deps.table;
    this.#ledger = deps.ledger;
    this.#store = deps.store;
    this.#log = deps.log;
  }

  async run(): Promise<Found> {
    // LevelDB finds the next key behind any number of deleted ones only by stepping over them. So
    // each lane is listed from the ledger's head on, a few records are looked up by their numbers,
    // and where nobody else can have a record nobody else is looked for.
    const proven = this.#store.lastNumberProven === true;
    if (!proven || !(await this.#listFew())) {
      for (const name of this.#known) await this.#listLane(name);
    }
    if (!proven || !this.#isComplete()) await this.#listUnknown();
    for (const order of this.#orders.values()) order.end();
    this.#findMissing();
    return { changed: this.#changed, losses: this.#losses };
  }

  /** Each number that is not gone, looked up in each lane; false: they are too many for that. */
  async #listFew(): Promise<boolean> {
    const few: number[] = [];
    for (const number of this.#ledger.present(this.#store.lastNumber ?? 0)) {
      few.push(number);
      if (few.length * this.#known.length > FEW_LOOKUPS) return false;
    }
    const keys = few.flatMap((number) => this.#known.map((name) => `${name}/${hex(number)}`));
    const values = await Promise.all(keys.map((key) => this.#lookUp(key)));
    for (const [i, key] of keys.entries()) {
      const value = values[i];
      if (value === "damaged") this.#damaged(key);
      else if (value) this.#list(this.#laneOf(laneName(key)), key, value);
    }
    return true;
  }

  async #lookUp(key: string): Promise<Uint8Array | "damaged" | undefined> {
    try {
      return await this.#table.get(key);
    } catch (error) {
      if (!isHoldfastError(error, "store_damaged")) throw error;
      this.#log.error("record not readable", { key, error: describeError(error) });
      return "damaged";
    }
  }

  /** Whether every number is listed or gone, so that there is no other record anywhere. */
  #isComplete(): boolean {
    for (const number of this.#ledger.present(this.#store.lastNumber ?? 0)) {
      if (!this.#seen.has(number)) return false;
    }
    return true;
  }

  /** Lanes that the configuration does not name are looked for between those that it does. */
  async #listUnknown(): Promise<void> {
    let cursor = "";
    for (const name of this.#known) {
      await this.#listBetween(cursor, `${name}/`);
      cursor = `${name}/\x7f`;
    }
    await this.#listBetween(cursor, undefined);
  }

  async #listBetween(after: string, upTo: string | undefined): Promise<void> {
    let cursor = after;
    for (;;) {
      const first = await this.#first(cursor, upTo);
      if (first === undefined) return;
      cursor = await this.#listLane(laneName(first));
    }
  }

  /** Gives the end of the lane's keys. */
  async #listLane(name: string): Promise<string> {
    const gt = `${name}/${hex(this.#ledger.through)}`;
    const lte = `${name}/\x7f`;
    for await (const [key, value] of this.#range(gt, lte)) {
      this.#list(this.#laneOf(name), key, value);
    }
    return lte;
  }

  /** Not with a limit of one: a damaged record counts in it and is not given. */
  async #first(after: string, upTo: string | undefined): Promise<string | undefined> {
    for await (const [key] of this.#range(after, upTo)) return key;
    return undefined;
  }

  #range(gt: string, lte: string | undefined): AsyncIterable<readonly [string, Uint8Array]> {
    return this.#table.range({
      gt,
      ...(lte !== undefined && { lte }),
      limit: Number.POSITIVE_INFINITY,
      damaged: (key) => this.#damaged(key),
    });
  }

  #list(lane: Lane, key: string, value: Uint8Array): void {
    try {
      const head = decodeRecordSummary(value);
      const { number, count, time, firstSeq, lastSeq } = head;
      if (this.#ledger.isGone(number)) return; // A repair brought it back.
      const known = this.#ledger.mask(number);
      const noted = (this.#noted.masks.get(number) ?? 0) & allOf(count);
      const gone = known | noted;
      const whole = gone === 0 && !lane.latest ? undefined : decodeRecord(value);
      const bytes = whole ? bytesOf(whole, ~gone) : head.packetBytes;
      const pins = whole ? indexPins(lane, whole.messages) : 0;
      const epoch = this.#epochs.get(head.epoch) ?? head.epoch;
      this.#epochs.set(epoch, epoch);
      const record: StoredRecord = {
        ...{ lane, number, count, bytes, gone, held: 0, heldBytes: 0, queued: true, pins, time },
        ...{ epoch, firstSeq, lastSeq },
      };
      for (const { seq, producerId } of head.producers) {
        const id = messageId(epoch, seq);
        lane.remember(producerId, epoch, seq, Promise.resolve({ id, seq, safe: "disk" }));
      }
      this.#seen.add(number);
      this.#store.noteNumber(number);
      lane.messages += count - bits(gone);
      lane.bytes += bytes;
      if (bits(gone) < count) this.#inOrder(lane).add(record);
      if (whole && gone !== known) this.#noteChange(record, whole, known);
      if (lane.latest && whole) this.#keepLatest(lane.latest, record, whole);
    } catch (error) {
      this.#log.error("record not readable", { key, error: describeError(error) });
      this.#damaged(key);
    }
  }

  #inOrder(lane: Lane): StreamOrder {
    const known = this.#orders.get(lane);
    const order = known ?? new StreamOrder((record) => lane.stored.push(record));
    if (!known) this.#orders.set(lane, order);
    return order;
  }

  /** Settled or let go by the process before, in a note only. */
  #noteChange(record: StoredRecord, whole: OutboxRecord, known: number): void {
    const letGo: LetGo[] = [];
    for (const { why, mask } of this.#noted.letGo.get(record.number) ?? []) {
      const lost = mask & ~known & allOf(record.count);
      if (lost === 0) continue;
      letGo.push({ why, mask: lost });
      if (why !== "replaced") {
        this.#losses.push({ ...lossOf(whole, lost), lane: record.lane.name, reason: why });
      }
    }
    this.#changed.push({ record, letGo });
  }

  /** Of two messages of one key the earlier was about to go, or the lane kept all before. */
  #keepLatest(latest: LatestIndex, record: StoredRecord, { messages }: OutboxRecord): void {
    for (const [index, { key, packet }] of messages.entries()) {
      if (key === "" || (record.gone & (1 << index)) !== 0) continue;
      const old = latest.current(key);
      const place = { entry: undefined, record, index, bytes: packet.length };
      latest.set(key, place, record.lane.messages);
      if (!old?.record) continue;
      old.record.gone |= 1 << old.index;
      old.record.bytes -= old.bytes;
      record.lane.messages--;
      record.lane.bytes -= old.bytes;
      const letGo: LetGo[] = [{ why: "replaced", mask: 1 << old.index }];
      this.#changed.push({ record: old.record, letGo });
    }
  }

  /** Counted once, and then it is gone: the ledger learns of it with the next commit. */
  #damaged(key: string): void {
    const number = Number.parseInt(key.slice(key.indexOf("/") + 1), 16);
    if (!Number.isSafeInteger(number) || number <= 0) return;
    if (this.#seen.has(number) || this.#ledger.isGone(number)) return;
    this.#seen.add(number);
    this.#store.noteNumber(number);
    const lane = this.#laneOf(laneName(key));
    lane.countDropped("damage", 1);
    this.#losses.push(damagedRecord(lane.name));
    const record: StoredRecord = {
      ...{ lane, number, count: 1, bytes: 0, gone: 1, held: 0, heldBytes: 0, queued: false },
      pins: 0,
      ...{ time: { bootId: "", monotonicMs: 0, wallMs: 0, trusted: false } },
      ...{ epoch: "", firstSeq: 0, lastSeq: 0 },
    };
    this.#changed.push({ record, letGo: [{ why: "damage", mask: 1 }] });
  }

  #findMissing(): void {
    // Behind the last one that is there: a lost tail, which the store's anchor knows of.
    const known = this.#store.lastNumber ?? 0;
    const last = Math.max(this.#seen.highest, this.#ledger.highest, known);
    let missing = 0;
    for (const number of this.#ledger.present(last, last - MOST_MISSING)) {
      if (this.#seen.has(number)) continue;
      missing++;
      this.#ledger.markRecord(number);
      this.#losses.push(damagedRecord(null));
    }
    if (missing > 0) this.#log.error("records missing", { records: missing });
  }
}

/** At least one message; which and how many cannot be told. */
function damagedRecord(lane: string | null): Loss {
  return { lane, reason: "damage", messages: 1, bytes: 0, from: null, to: null, exact: false };
}

/** These messages of a record, counted. */
function lossOf(record: OutboxRecord, mask: number): Omit<Loss, "lane" | "reason"> {
  const lost = record.messages.filter((_, i) => (mask & (1 << i)) !== 0);
  const end = (message: (typeof lost)[number] | undefined): GapEnd | null =>
    message === undefined
      ? null
      : {
          id: messageId(record.epoch, message.seq),
          at: Math.round(record.time.wallMs + message.offsetMs),
        };
  return {
    messages: lost.length,
    bytes: bytesOf(record, mask),
    from: end(lost[0]),
    to: end(lost.at(-1)),
    exact: true,
  };
}

function bytesOf({ messages }: OutboxRecord, mask: number): number {
  return messages.reduce(
    (sum, { packet }, i) => sum + ((mask & (1 << i)) === 0 ? 0 : packet.length),
    0,
  );
}

function laneName(key: string): string {
  return key.slice(0, key.indexOf("/"));
}
