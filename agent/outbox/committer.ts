import type { Clock } from "../core/clock.ts";
import { describeError, HoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";
import type { Logger } from "../core/log.ts";
import { Wakeup } from "../core/wakeup.ts";
import { isImportant, type Store, type Write } from "../store/store.ts";
import { Deque } from "./deque.ts";
import { answer, type Entry, type StoredRecord } from "./entry.ts";
import type { Lane } from "./lane.ts";
import { persistDelayMs, type RecentLatency } from "./latency.ts";
import { isWhollyGone } from "./latest.ts";
import type { Losses } from "./losses.ts";
import type { Records } from "./records.ts";
import type { LetGo, SettleNotes } from "./settle-notes.ts";

export interface CommitterOptions {
  readonly epoch: string;
  readonly persistDelayMs: number;
  readonly settleEvery: number;
}

export interface CommitterDeps {
  readonly store: Store;
  readonly records: Records;
  readonly clock: Clock;
  readonly log: Logger;
  readonly latency: RecentLatency;
  readonly onStored: (entry: Entry) => void;
  readonly notes: SettleNotes;
  readonly losses: Pick<Losses, "takeWrites" | "committed">;
  /** A commit with settlements is on disk. */
  readonly onNoted: () => void;
  /** Says whether the entry still waits for the service or was refused. */
  readonly onRefused: (entry: Entry, error: HoldfastError) => "wait" | "refused";
}

const GROUP_MESSAGES = 4_096;
const GROUP_BYTES = 2 * 1024 * 1024;
/** Settlements are committed at the latest after this. */
const SETTLE_MS = 1_000;
/** Between two attempts on a disk that does not take writes. */
const RETRY_MS = 500;
/** At this share of `settleEvery` a commit begins, so that the rest is left for while it lasts. */
const SETTLE_SHARE = 0.75;

/**
 * The loop that writes: one synced commit at a time, holding every message whose persist delay is
 * over and, once a second or every `settleEvery` messages, what was settled or dropped. Whoever
 * comes while a commit is under way shares the next one.
 */
export class Committer {
  persisted = 0;
  /** Bytes that neither disk nor service has acknowledged. */
  unsafeBytes = 0;
  readonly #options: CommitterOptions;
  readonly #deps: CommitterDeps;
  readonly #wakeup = new Wakeup();
  readonly #pending = new Deque<Entry>();
  readonly #touched = new Set<StoredRecord>();
  readonly #unwritten = new Map<string, Write>();
  /** Entries of `pending` that went since it was looked through, at most. */
  #forgotten = 0;
  #settlements = 0;
  /** Of the commit under way, or of the one that failed and is tried again. */
  #settling = 0;
  /** Messages of records being written that were settled meanwhile. */
  #early = 0;
  /** Important messages whose commit failed, since one succeeded. */
  readonly #secondTry = new Set<Entry>();
  #failing = false;
  #lettingGo = false;
  #firstSettledMs = 0;
  #notBeforeMs = 0;
  /** While the loop sleeps; it looks at everything when it wakes, and before it sleeps. */
  #wakesAtMs = 0;
  #online = false;
  #stopping = false;
  #loop: Promise<void> | undefined;

  constructor(options: CommitterOptions, deps: CommitterDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  start(signal: AbortSignal): void {
    this.#loop = this.#run(signal);
  }

  /** Writes all that waits; gives up when the deadline aborts. */
  async stop(deadline: AbortSignal): Promise<void> {
    this.#stopping = true;
    this.#wakeup.notify();
    const gaveUp = new Promise<void>((resolve) => {
      deadline.addEventListener("abort", () => resolve(), { once: true });
    });
    if (!deadline.aborted) await Promise.race([this.#loop, gaveUp]);
    const error = new HoldfastError("stopped", "The agent stopped before the message was safe.");
    for (let entry = this.#pending.shift(); entry; entry = this.#pending.shift()) {
      if (entry.place === "fresh") answer(entry, error);
    }
  }

  setOnline(online: boolean): void {
    this.#online = online;
    this.#wakeup.notify();
  }

  add(entry: Entry): void {
    // Behind another one it is due later than that; and mostly the loop wakes before it is due.
    const dueMs = this.#pending.length === 0 ? entry.acceptedAt.monotonicMs + this.#delayMs() : 0;
    if (dueMs > 0 && dueMs < this.#wakesAtMs) this.#wakeup.notify();
    this.#pending.push(entry);
    this.unsafeBytes += entry.packet.length;
  }

  /** The service was faster than the disk. */
  forget(entry: Entry): void {
    this.unsafeBytes -= entry.packet.length;
    if (this.#secondTry.size > 0) this.#secondTry.delete(entry);
    // Behind entries that a dead disk does not take, the others must not pile up.
    if (++this.#forgotten < 1_024 || this.#forgotten * 2 < this.#pending.length) return;
    this.#pending.filter(({ place }) => place !== "gone");
    this.#forgotten = 0;
  }

  countPersisted(messages: number): void {
    this.persisted += messages;
  }

  /** So many messages of this record were settled; to be noted on disk, a little later. */
  noteGone(record: StoredRecord, messages = 1): void {
    this.#touched.add(record);
    this.#deps.notes.add(record.number, record.gone);
    this.noteChange(messages);
  }

  /** Messages of this record were let go: with the next commit, whatever that is for. */
  noteLetGo(record: StoredRecord, letGo: LetGo): void {
    this.#touched.add(record);
    this.#deps.notes.addLetGo(record.number, letGo);
    this.#lettingGo = true;
    this.noteChange();
  }

  /** Goes with the next commit that notes losses. */
  also(write: Write): void {
    this.#keep(write);
    this.#lettingGo = true;
  }

  /** It was settled while its record is being written, where a kill may find it. */
  noteEarly(number: number, mask: number): void {
    this.#deps.notes.add(number, mask);
    this.#early++;
  }

  /** The record gets its number only now; some of its messages are settled already. */
  #noteGoneBefore(number: number, entries: readonly Entry[]): void {
    entries.forEach(({ place }, index) => {
      if (place === "gone") this.noteEarly(number, 1 << index);
    });
    this.#deps.notes.flush();
  }

  /**
   * Whether `settleEvery` messages are settled and not noted on disk (I3): then nothing more is to
   * be sent. A disk that fails holds up nothing.
   */
  get behind(): boolean {
    const unnoted = this.#settlements + this.#settling + this.#early;
    return !this.#failing && unnoted >= this.#options.settleEvery;
  }

  /** Ledger or losses have something to write. */
  noteChange(messages = 1): void {
    const before = this.#settlements;
    this.#settlements += messages;
    if (before === 0) {
      this.#firstSettledMs = this.#deps.clock.monotonicMs();
      this.#wakeup.notify();
    }
    if (before < this.#settleAt && this.#settlements >= this.#settleAt) this.#wakeup.notify();
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const waitMs = this.#msToNext();
      if (waitMs <= 0) await this.#commit();
      else if (this.#stopping && waitMs === Number.POSITIVE_INFINITY) return;
      else await this.#pause(waitMs, signal);
    }
  }

  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    this.#wakesAtMs = this.#deps.clock.monotonicMs() + ms;
    await this.#wakeup.waitAtMost(ms, this.#deps.clock, signal);
    this.#wakesAtMs = 0;
  }

  /** Milliseconds until something is to be written; infinity when nothing is. */
  #msToNext(): number {
    const now = this.#deps.clock.monotonicMs();
    const next = Math.min(this.#pendingDueMs(), this.#settlementsDueMs());
    return next === Number.POSITIVE_INFINITY ? next : Math.max(next, this.#notBeforeMs) - now;
  }

  #pendingDueMs(): number {
    for (let head = this.#pending.peek(); head; head = this.#pending.peek()) {
      if (head.place === "fresh") return head.acceptedAt.monotonicMs + this.#delayMs();
      this.#pending.shift();
    }
    return Number.POSITIVE_INFINITY;
  }

  #settlementsDueMs(): number {
    if (this.#settlements === 0 && this.#unwritten.size === 0) return Number.POSITIVE_INFINITY;
    if (this.#stopping || this.#settlements >= this.#settleAt) return 0;
    return this.#firstSettledMs + SETTLE_MS;
  }

  get #settleAt(): number {
    return Math.ceil(this.#options.settleEvery * SETTLE_SHARE);
  }

  #delayMs(): number {
    if (this.#stopping) return 0;
    const { persistDelayMs: configured } = this.#options;
    return persistDelayMs(configured, this.#online, this.#deps.latency.medianMs());
  }

  async #commit(): Promise<void> {
    const { store, records, notes } = this.#deps;
    const now = this.#deps.clock.monotonicMs();
    const settling = this.#settlementsDueMs() <= now || this.#lettingGo;
    const { group, noRoom } = this.#dueEntries(now, store.shortFrom ?? Number.POSITIVE_INFINITY);
    if (noRoom.length > 0) {
      // The drain goes on: what was settled is written all the same.
      this.#failed(noRoom, noRoomError());
    }
    if (settling) this.#collectSettlements();
    const made = pack(group).map((entries) =>
      records.write(entries, this.#options.epoch, (number) =>
        this.#noteGoneBefore(number, entries),
      ),
    );
    const writes = [...this.#unwritten.values(), ...made];
    try {
      if (writes.length > 0) await store.commit(writes, { sync: true });
    } catch (cause) {
      this.#failed(group, cause);
      return;
    }
    this.#unwritten.clear();
    this.#deps.losses.committed();
    if (settling) notes.committed();
    this.#failing = false;
    this.#settling = 0;
    this.#early = 0; // From here on each counts as a settlement.
    this.#secondTry.clear();
    this.persisted += group.length;
    for (const entry of group) {
      this.unsafeBytes -= entry.packet.length;
      this.#deps.onStored(entry);
    }
    notes.flush();
    if (settling) this.#deps.onNoted();
  }

  /** Those of lanes from the priority `shortFrom` on have no room, and take none from the others. */
  #dueEntries(now: number, shortFrom: number): { group: Entry[]; noRoom: Entry[] } {
    const delay = this.#delayMs();
    const group: Entry[] = [];
    const noRoom: Entry[] = [];
    let bytes = 0;
    while (group.length < GROUP_MESSAGES && bytes < GROUP_BYTES) {
      const head = this.#pending.peek();
      if (!head) break;
      if (head.place === "fresh") {
        if (head.acceptedAt.monotonicMs + delay > now) break;
        if (head.lane.options.priority >= shortFrom) noRoom.push(head);
        else {
          head.place = "writing";
          group.push(head);
          bytes += head.packet.length;
        }
      }
      this.#pending.shift();
    }
    return { group, noRoom };
  }

  #collectSettlements(): void {
    const { records, notes } = this.#deps;
    notes.begin();
    for (const record of this.#touched) {
      if (records.ledger.isGone(record.number)) continue;
      if (isWhollyGone(record)) this.#keep(records.remove(record));
      else records.ledger.markMessages(record.number, record.gone);
    }
    for (const write of records.ledger.takeWrites()) this.#keep(write);
    for (const write of this.#deps.losses.takeWrites()) this.#keep(write);
    this.#touched.clear();
    this.#settling += this.#settlements;
    this.#settlements = 0;
    this.#lettingGo = false;
  }

  #keep(write: Write): void {
    if ("key" in write) this.#unwritten.set(`${write.table}/${write.key}`, write);
  }

  /** The records of these were not written: what was noted of them is of no record. */
  #forgetNumbers(group: readonly Entry[]): void {
    const numbers = new Set<number>();
    for (const entry of group) {
      if (entry.place === "gone" && entry.record) numbers.add(entry.record.number);
      entry.record = undefined;
    }
    if (numbers.size > 0) this.#deps.notes.void(numbers);
  }

  #failed(group: readonly Entry[], cause: unknown): void {
    this.#notBeforeMs = this.#deps.clock.monotonicMs() + RETRY_MS;
    this.#firstSettledMs = this.#notBeforeMs - SETTLE_MS;
    const error =
      cause instanceof HoldfastError
        ? cause
        : new HoldfastError("store_not_writable", "The disk does not take writes now.", { cause });
    this.#deps.log.debug("commit failed", { error: describeError(error), messages: group.length });
    this.#failing = true;
    this.#early = 0;
    this.#forgetNumbers(group);
    const again: Entry[] = [];
    for (const entry of group) {
      if (entry.place === "writing") entry.place = "fresh";
      if (this.#isTriedAgain(entry, error) || this.#deps.onRefused(entry, error) === "wait") {
        again.push(entry);
      } else {
        this.unsafeBytes -= entry.packet.length;
        this.#secondTry.delete(entry);
      }
    }
    this.#pending.unshift(again);
  }

  /**
   * Important content is tried once more, at once and without what is ordinary: by then the store has
   * been opened again, and a full disk has the room of the ballast.
   */
  #isTriedAgain(entry: Entry, { details }: HoldfastError): boolean {
    if (entry.place !== "fresh" || !isImportant(entry.lane.options.priority)) return false;
    if (details["short"] === true) return false;
    // Once until something was written: two that take turns would ask the disk without a pause.
    if (this.#secondTry.has(entry)) return false;
    this.#secondTry.add(entry);
    this.#notBeforeMs = this.#deps.clock.monotonicMs();
    return true;
  }
}

function noRoomError(): HoldfastError {
  const message = "There is no room for more on the disk.";
  return new HoldfastError("store_not_writable", message, { details: { short: true } });
}

/** Groups of messages that share a record: one lane, one section, in order, bounded. */
function pack(entries: readonly Entry[]): Entry[][] {
  const open = new Map<Lane, { entries: Entry[]; bytes: number }>();
  const packed: Entry[][] = [];
  for (const entry of entries) {
    const current = open.get(entry.lane);
    const fits =
      current &&
      current.entries.length < limits.recordMessages &&
      current.bytes + entry.packet.length <= limits.recordBytes &&
      current.entries[0]?.section === entry.section;
    if (fits) {
      current.entries.push(entry);
      current.bytes += entry.packet.length;
    } else {
      const started = { entries: [entry], bytes: entry.packet.length };
      open.set(entry.lane, started);
      packed.push(started.entries);
    }
  }
  return packed;
}
