import { type Clock, withDeadline } from "../core/clock.ts";
import { describeError, isHoldfastError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { decodePublish, publishTopic } from "../core/publish-packet.ts";
import { Wakeup } from "../core/wakeup.ts";
import type { Store, Table, Write } from "../store/store.ts";
import { type Entry, provenAgeMs } from "./entry.ts";
import type { Lane } from "./lane.ts";
import { hex } from "./ledger.ts";
import type { Accusation, QuarantinedMessage, QuarantinePage, TrialOutcome } from "./port.ts";
import { Case, idOf, type Parked } from "./quarantine-case.ts";
import { type QuarantineRecord, quarantineCodec } from "./quarantine-record.ts";
import type { RecordTime } from "./record.ts";

/**
 * Where messages go that the service answers by closing the connection: kept with their ids, bytes
 * and order, so that everything else flows.
 *
 * Invariants
 * - A message is in its lane, or here, or on its way: it leaves its lane only when the synced commit
 *   that puts it here has succeeded. A crash in between finds it in both places; the copy in the
 *   lane is let go as soon as it is seen.
 * - While a topic is blocked its further messages come here without being tried. One is tried after
 *   1 minute, doubled up to a day; `reconsider` tries all soon. When one goes through, those behind
 *   it go out in order, through the front of their lane, and the topic is open again when the last
 *   of them has been taken.
 * - A message of a released case stays on disk here until it is acknowledged.
 *
 * Bounds: `MESSAGES`, `BYTES`, `LIFETIME_MS` of provable time; the oldest go first and are told to
 * `onLost`. The disk takes nothing: what was diverted waits in memory, up to `PENDING`; then the
 * lanes that hold more of it wait, too.
 */
export interface QuarantineDeps {
  readonly store: Store;
  /** Of the messages of this process. */
  readonly epoch: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly now: () => RecordTime;
  readonly laneOf: (name: string) => Lane;
  /** It is safe here; its lane may forget it. */
  readonly onParked: (entry: Entry) => void;
  /** It was let go for a bound, by an operator, or by the disk; its deletion is to be committed. */
  readonly onLost: (parked: Parked, reason: "quarantine" | "damage", deletion: Write) => void;
  /** There may be something to take. */
  readonly wake: () => void;
}

interface Pending {
  readonly entry: Entry;
  readonly in: Case;
}

/** Of a message's head in the table, about. */
const HEAD_BYTES = 400;
const MESSAGES = 10_000;
const BYTES = 16 * 1024 * 1024;
const LIFETIME_MS = 30 * 86_400_000;
/** Topics that stay blocked although nothing of them is kept. */
const EMPTY_CASES = 1_000;
const PENDING = { messages: 2_048, bytes: 1024 * 1024 };
const GROUP = { messages: 512, bytes: 1024 * 1024 };
/** What is read back at once of a released case. */
const RELEASE = { messages: 64, bytes: 256 * 1024 };
const SWEEP_MS = 3_600_000;
const RETRY_MS = 1_000;
/** Between two tries that nobody asked for: each may cost the connection. */
const TRIAL_GAP_MS = 60_000;

export class Quarantine {
  readonly #deps: QuarantineDeps;
  readonly #table: Table<QuarantineRecord>;
  readonly #log: Logger;
  readonly #cases = new Set<Case>();
  readonly #topics = new Map<string, Case>();
  readonly #releasing = new Set<Case>();
  /** By message id; the order is that of parking. */
  readonly #parked = new Map<string, Parked>();
  readonly #handed = new Map<Entry, Parked>();
  #bytes = 0;
  #blocking = 0;
  /** What was here at the start, in ids: lanes may have copies of it, also when it is gone from here. */
  #atStart: ReadonlySet<string> = new Set();
  #lastCase = 0;
  #lastPlace = 0;
  #pending: Pending[] = [];
  #pendingBytes = 0;
  readonly #dirty = new Set<Case>();
  #deletions: string[] = [];
  #trialGapEndsMs = 0;
  /** Undefined: to be found anew. */
  #nextTrialMs: number | undefined;
  #unreadableUntilMs = 0;
  readonly #work = new Wakeup();
  #loop: Promise<void> | undefined;

  constructor(deps: QuarantineDeps) {
    this.#deps = deps;
    this.#log = deps.log.child("quarantine");
    this.#table = deps.store.table("quarantine", quarantineCodec);
  }

  get messages(): number {
    return this.#parked.size + this.#pending.length;
  }

  /** What its messages take on disk, about. */
  get diskBytes(): number {
    return this.#bytes + this.#parked.size * HEAD_BYTES;
  }

  /** Cases with a message in them, the oldest first. */
  get cases(): readonly Pick<Case, "number" | "topic" | "reason" | "scope">[] {
    return [...this.#cases].filter(({ messages }) => messages.size > 0);
  }

  async load(): Promise<void> {
    const now = this.#deps.now();
    const all = { limit: Number.POSITIVE_INFINITY };
    const byNumber = new Map<number, Case>();
    for await (const [key, record] of this.#table.range(all)) {
      const number = Number.parseInt(key.slice(1), 16);
      if (!("packet" in record)) {
        const waitedMs = provenAgeMs(record.triedAt, now);
        byNumber.set(number, this.#addCase(new Case(number, record, now.monotonicMs, waitedMs)));
        continue;
      }
      const { head, packet } = record;
      const { topic, payload } = decodePublish(packet);
      const found = byNumber.get(head.caseNumber) ?? this.#topics.get(topic);
      const reason = "its case was lost";
      this.#index({
        ...{ place: number, epoch: head.epoch, seq: head.seq, lane: head.lane, handed: false },
        ...{ bytes: packet.length, payloadBytes: payload.length },
        ...{ at: Math.round(head.acceptedAt.wallMs), parkedAt: head.parkedAt },
        in: found ?? this.#newCase({ scope: "topic", topic, reason }),
      });
    }
    this.#atStart = new Set(this.#parked.keys());
    for (const each of [...this.#cases]) this.#advance(each);
    if (this.messages > 0) this.#log.warn("messages in quarantine", { messages: this.messages });
  }

  start(signal: AbortSignal): void {
    this.#loop ??= this.#run(signal);
  }

  /** After the signal of `start` aborted: what is left is written once. */
  async stopped(): Promise<void> {
    await this.#loop;
    if (this.#loop && this.#isBusy) await this.#write();
  }

  // What the outbox asks before it hands a message out.

  /** Too much waits for the disk: what it wants has to wait in its lane. */
  get isFull(): boolean {
    return this.#pending.length >= PENDING.messages || this.#pendingBytes >= PENDING.bytes;
  }

  /** True while it wants nothing, whatever is handed out. */
  get isCalm(): boolean {
    return this.#blocking === 0 && this.#atStart.size === 0;
  }

  /** Whether it is to come here instead of being sent. */
  wants(entry: Entry): boolean {
    if (this.isCalm) return false;
    if (this.#handed.size > 0 && this.#handed.has(entry)) return false;
    return this.#isCopy(entry) || this.#blockerOf(entry) !== undefined;
  }

  /** Takes what it wants, out of its lane by now. */
  divert(entry: Entry): void {
    const blocker = this.#isCopy(entry) ? undefined : this.#blockerOf(entry);
    if (blocker) this.#add(entry, blocker);
    else this.#deps.onParked(entry);
  }

  /** True for a message that came from here; `left` is to be told when it is gone. */
  owns(entry: Entry): boolean {
    return this.#handed.size > 0 && this.#handed.has(entry);
  }

  /** It was acknowledged, or its lane let it go. */
  left(entry: Entry): void {
    const parked = this.#handed.get(entry);
    if (!parked) return;
    this.#handed.delete(entry);
    const { in: its } = parked;
    const passed = its.trial === parked;
    if (passed) its.trial = undefined;
    this.#remove(parked);
    if (passed) this.#passed(its, parked);
    this.#advance(its);
  }

  /** It goes back: its lane has no room for it now. */
  retract(entry: Entry): void {
    const parked = this.#handed.get(entry);
    if (!parked) return;
    this.#takeBack(entry, parked);
    if (parked.in.releasing) this.#releasing.add(parked.in);
  }

  /** Monotonic time at which `prepare` has something to do; infinity while it has not. */
  dueMs(trials: boolean): number {
    if (this.#cases.size === 0) return Number.POSITIVE_INFINITY;
    this.#nextTrialMs ??= this.#trials().reduce(
      (least, { atMs }) => Math.min(least, atMs),
      Number.POSITIVE_INFINITY,
    );
    let next = trials ? this.#nextTrialMs : Number.POSITIVE_INFINITY;
    for (const { hasUnhanded } of this.#releasing) if (hasUnhanded) next = 0;
    return Math.max(next, this.#unreadableUntilMs);
  }

  /** Puts what is released in front of its lane; gives what is to be tried alone now. */
  async prepare(nowMs: number, trials: boolean): Promise<Entry | undefined> {
    for (const released of [...this.#releasing]) await this.#release(released);
    if (!trials) return undefined;
    const due = this.#trials().find(({ atMs }) => atMs <= nowMs)?.of;
    const candidate = due?.candidate;
    const entry = candidate && (await this.#read(candidate));
    if (!due || !candidate || !entry) return undefined;
    this.#nextTrialMs = undefined;
    due.trial = candidate;
    this.#log.info("trying again", { topic: due.topic, id: idOf(candidate), tries: due.tries });
    return entry;
  }

  /** Cases that may be tried, and when; tries that nobody asked for keep their distance. */
  #trials(): { readonly of: Case; readonly atMs: number }[] {
    return [...this.#cases].map((each) => ({
      of: each,
      atMs: each.forced ? each.trialMs : Math.max(each.trialMs, this.#trialGapEndsMs),
    }));
  }

  // What the forwarder found out.

  accuse(accusation: Accusation, entries: readonly Entry[]): void {
    const { scope, topic } = accusation;
    const known = scope === "topic" ? this.#topics.get(topic) : undefined;
    const its = known ?? this.#newCase(accusation);
    if (known) this.#close(known);
    this.#log.warn("set aside", { ...accusation, messages: entries.length });
    for (const entry of entries) {
      const parked = this.#handed.get(entry);
      if (!parked) {
        entry.taken = true;
        this.#add(entry, its);
        continue;
      }
      this.#takeBack(entry, parked);
      if (scope === "message") void this.#move(parked, its);
    }
    this.#touch(its);
    this.#deps.wake();
  }

  /** A try ended and its message is not acknowledged; `unsent`: it never went out. */
  trialEnded(entry: Entry, outcome: TrialOutcome): void {
    const parked = this.#handed.get(entry);
    if (!parked) return;
    const { in: its } = parked;
    this.#takeBack(entry, parked);
    its.trial = undefined;
    this.#nextTrialMs = undefined;
    const now = this.#deps.now();
    if (outcome === "unsent") return;
    this.#trialGapEndsMs = now.monotonicMs + TRIAL_GAP_MS;
    if (outcome === "undecided") {
      its.postponed(now.monotonicMs);
      return;
    }
    its.failed(now);
    this.#log.info("still refused", { topic: its.topic, tries: its.tries });
    this.#touch(its);
  }

  // What operators and the agent ask for.

  list(cursor: string | undefined, limit: number): QuarantinePage {
    const after = cursor !== undefined && /^\d{1,15}$/.test(cursor) ? Number(cursor) : 0;
    const items: QuarantinedMessage[] = [];
    let last = 0;
    for (const parked of this.#parked.values()) {
      if (parked.place <= after) continue;
      if (items.length === limit) return { items, next: String(last) };
      const { in: its, lane, payloadBytes: bytes, at, parkedAt } = parked;
      const { topic, scope, reason, tries } = its;
      last = parked.place;
      items.push({
        ...{ id: idOf(parked), lane, topic, bytes, at, parkedAt: Math.round(parkedAt.wallMs) },
        ...{ scope, reason, tries },
      });
    }
    return { items, next: null };
  }

  /** Tries the case of this message, or all cases, as soon as there is a connection. */
  retry(id?: string): number {
    const { monotonicMs } = this.#deps.now();
    const named = id === undefined ? undefined : this.#parked.get(id)?.in;
    const cases = id === undefined ? [...this.#cases] : named ? [named] : [];
    for (const each of cases) each.force(monotonicMs);
    this.#nextTrialMs = undefined;
    this.#deps.wake();
    return id === undefined ? this.#parked.size : cases.length;
  }

  /** Lets this message, or all, go for good; resolves when that is on disk. */
  async drop(id?: string): Promise<number> {
    const named = id === undefined ? [...this.#parked.values()] : [this.#parked.get(id)];
    const dropped = named.filter((parked) => parked !== undefined);
    const keys = dropped.map((parked) => messageKey(parked.place));
    if (keys.length === 0) return 0;
    await this.#deps.store.commit(
      keys.map((key) => this.#table.del(key)),
      { sync: true },
    );
    for (const parked of dropped) {
      this.#lose(parked, "quarantine");
    }
    this.#log.info("dropped by an operator", { messages: dropped.length });
    return dropped.length;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#sweep();
      if (this.#isBusy) {
        if (!(await this.#write())) await this.#deps.clock.sleep(RETRY_MS, signal);
      } else if (this.#parked.size === 0) await this.#work.wait(signal);
      else await withDeadline(this.#deps.clock, SWEEP_MS, signal, (end) => this.#work.wait(end));
    }
  }

  get #isBusy(): boolean {
    return this.#pending.length + this.#dirty.size + this.#deletions.length > 0;
  }

  /** One synced commit; false when the disk did not take it. */
  async #write(): Promise<boolean> {
    const cases = [...this.#dirty];
    const deletions = this.#deletions;
    const group = this.#group();
    const made = group.map((pending) => this.#messageOf(pending));
    this.#dirty.clear();
    this.#deletions = [];
    const writes: Write[] = [
      ...cases.map((each) => this.#caseWrite(each)),
      ...deletions.map((key) => this.#table.del(key)),
      ...made.map(({ write }) => write),
    ];
    try {
      await this.#deps.store.commit(writes, { sync: true });
    } catch (error) {
      this.#log.debug("not written", { error: describeError(error) });
      for (const each of cases) this.#dirty.add(each);
      this.#deletions.unshift(...deletions);
      return false;
    }
    this.#pending.splice(0, group.length);
    for (const { parked, entry } of made) {
      this.#pendingBytes -= parked.bytes;
      parked.in.pending--;
      this.#index(parked);
      this.#deps.onParked(entry);
      this.#advance(parked.in);
    }
    this.#evict();
    this.#deps.wake();
    return true;
  }

  #group(): Pending[] {
    let bytes = 0;
    let count = 0;
    while (count < Math.min(this.#pending.length, GROUP.messages) && bytes < GROUP.bytes) {
      bytes += this.#pending[count++]?.entry.packet.length ?? 0;
    }
    return this.#pending.slice(0, count);
  }

  #messageOf({ entry, in: its }: Pending): { parked: Parked; entry: Entry; write: Write } {
    const { epoch, seq, lane, key, producerId, acceptedAt, packet } = entry;
    const place = ++this.#lastPlace;
    const parkedAt = this.#deps.now();
    const { payload } = decodePublish(packet);
    const head = { v: 1, caseNumber: its.number, epoch, seq, lane: lane.name } as const;
    const write = this.#table.put(messageKey(place), {
      head: { ...head, key, producerId, acceptedAt, parkedAt },
      packet,
    });
    const parked = {
      ...{ place, epoch, seq, lane: lane.name, in: its, handed: false, parkedAt },
      ...{ bytes: packet.length, payloadBytes: payload.length },
      at: Math.round(acceptedAt.wallMs),
    };
    return { parked, entry, write };
  }

  #caseWrite(each: Case): Write {
    const key = `c${hex(each.number)}`;
    return this.#cases.has(each) ? this.#table.put(key, each.record) : this.#table.del(key);
  }

  /** Its lane did not learn before a crash that it is here; of this process's it always does. */
  #isCopy(entry: Entry): boolean {
    return this.#atStart.size > 0 && this.#atStart.has(idOf(entry));
  }

  #blockerOf({ packet }: Entry): Case | undefined {
    if (this.#blocking === 0) return undefined;
    const its = this.#topics.get(publishTopic(packet));
    return its?.blocks ? its : undefined;
  }

  #add(entry: Entry, its: Case): void {
    entry.taken = true; // Nobody else may let it go now.
    its.pending++;
    this.#pending.push({ entry, in: its });
    this.#pendingBytes += entry.packet.length;
    this.#work.notify();
  }

  #index(parked: Parked): void {
    this.#nextTrialMs = undefined;
    this.#parked.set(idOf(parked), parked);
    parked.in.messages.add(parked);
    this.#bytes += parked.bytes;
    this.#lastPlace = Math.max(this.#lastPlace, parked.place);
  }

  #remove(parked: Parked): void {
    if (!this.#forget(parked)) return;
    this.#deletions.push(messageKey(parked.place));
    this.#work.notify();
  }

  #forget(parked: Parked): boolean {
    if (!this.#parked.delete(idOf(parked))) return false;
    this.#nextTrialMs = undefined;
    parked.in.messages.delete(parked);
    this.#bytes -= parked.bytes;
    return true;
  }

  #newCase({ scope, topic, reason }: Accusation): Case {
    const now = this.#deps.now();
    const record = { scope, topic, reason, tries: 0, triedAt: now, releasing: false };
    const its = this.#addCase(new Case(this.#lastCase + 1, record, now.monotonicMs));
    this.#touch(its);
    this.#dropEmptyCases();
    return its;
  }

  #addCase(its: Case): Case {
    this.#cases.add(its);
    this.#lastCase = Math.max(this.#lastCase, its.number);
    if (its.scope === "topic") this.#topics.set(its.topic, its);
    if (its.releasing) this.#releasing.add(its);
    if (its.blocks) this.#blocking++;
    return its;
  }

  /** They only save a new finding; the oldest goes. */
  #dropEmptyCases(): void {
    if (this.#cases.size <= EMPTY_CASES) return;
    const empty = [...this.#cases].filter(({ messages, pending }) => messages.size + pending === 0);
    if (empty.length > EMPTY_CASES && empty[0]) this.#end(empty[0]);
  }

  /** Its topic is refused again, or still. */
  #close(its: Case): void {
    this.#setBlocks(its, true);
    its.failed(this.#deps.now());
    this.#releasing.delete(its);
    for (const [entry, parked] of [...this.#handed]) {
      // What waits in its lane comes back; what is in flight is named by the one who accuses.
      if (parked.in === its && !entry.taken) this.#takeBack(entry, parked);
    }
  }

  #takeBack(entry: Entry, parked: Parked): void {
    this.#nextTrialMs = undefined;
    entry.place = "gone";
    parked.handed = false;
    this.#handed.delete(entry);
  }

  /** One went through: the rest of its case goes out, but for one that was passed over. */
  #passed(its: Case, { place }: Parked): void {
    this.#log.info("goes through again", { topic: its.topic, scope: its.scope });
    const [first] = its.messages;
    if (first && first.place < place) {
      const { topic, reason } = its;
      void this.#move(first, this.#newCase({ scope: "message", topic, reason }));
    }
    its.releasing = true;
    this.#releasing.add(its);
    this.#touch(its);
    this.#deps.wake();
  }

  /** To another case; until that is on disk, the old one speaks for it. */
  async #move(parked: Parked, to: Case): Promise<void> {
    parked.in.messages.delete(parked);
    this.#advance(parked.in);
    parked.in = to;
    to.messages.add(parked);
    this.#touch(to);
    const key = messageKey(parked.place);
    try {
      const record = await this.#table.get(key);
      if (!record || !("packet" in record) || !this.#parked.has(idOf(parked))) return;
      const moved = { ...record, head: { ...record.head, caseNumber: to.number } };
      await this.#deps.store.commit([this.#caseWrite(to), this.#table.put(key, moved)], {
        sync: true,
      });
    } catch (error) {
      this.#log.warn("case not written", { error: describeError(error) });
    }
  }

  /** Reads the next of a released case into its lane, when those before have been taken. */
  async #release(its: Case): Promise<void> {
    for (const [entry, parked] of this.#handed) {
      if (parked.in === its && !entry.taken && entry.place !== "gone") return;
    }
    const next: Parked[] = [];
    let bytes = 0;
    for (const parked of its.unhanded()) {
      if (next.length === RELEASE.messages || bytes > RELEASE.bytes) break;
      // One lane at a time: the order between lanes does not matter, that within one does.
      if (next[0] && next[0].lane !== parked.lane) break;
      next.push(parked);
      bytes += parked.bytes;
    }
    const entries: Entry[] = [];
    for (const parked of next) {
      const entry = await this.#read(parked);
      if (entry) entries.push(entry);
      else if (this.#parked.has(idOf(parked))) break; // The disk does not give it now.
    }
    if (its.releasing) entries[0]?.lane.loaded.unshift(entries);
    this.#advance(its);
  }

  /** The message, to be sent; undefined when it cannot be read, now or for ever. */
  async #read(parked: Parked): Promise<Entry | undefined> {
    const key = messageKey(parked.place);
    let record: QuarantineRecord | undefined;
    try {
      record = await this.#table.get(key);
    } catch (error) {
      if (!isHoldfastError(error, "store_damaged")) {
        this.#unreadableUntilMs = this.#deps.now().monotonicMs + RETRY_MS;
        return undefined;
      }
      this.#log.error("not readable", { key, error: describeError(error) });
    }
    if (!this.#parked.has(idOf(parked))) return undefined; // Let go while it was read.
    if (!record || !("packet" in record)) {
      this.#lose(parked, "damage");
      return undefined;
    }
    const { epoch, seq, lane, producerId, acceptedAt } = record.head;
    const entry: Entry = {
      ...{ epoch, seq, lane: this.#deps.laneOf(lane), packet: record.packet },
      // Its lifetime here was the quarantine's, and no newer one of a key may replace it any more.
      ...{ ttlMs: 0, key: "", producerId, acceptedAt, place: "stored", taken: false, takenMs: 0 },
      ...{ record: undefined, indexInRecord: 0, section: 0, waiting: undefined },
    };
    this.#nextTrialMs = undefined;
    parked.handed = true;
    this.#handed.set(entry, parked);
    return entry;
  }

  #advance(its: Case): void {
    if (its.releasing) {
      const waits = its.pending > 0 || its.hasUnhanded;
      if (!waits) this.#releasing.delete(its);
      this.#setBlocks(its, waits && its.scope === "topic");
    }
    if (its.isOver && !its.trial) this.#end(its);
  }

  #setBlocks(its: Case, blocks: boolean): void {
    if (its.blocks !== blocks) this.#blocking += blocks ? 1 : -1;
    its.blocks = blocks;
  }

  #end(its: Case): void {
    if (!this.#cases.delete(its)) return;
    this.#setBlocks(its, false);
    this.#releasing.delete(its);
    if (this.#topics.get(its.topic) === its) this.#topics.delete(its.topic);
    this.#touch(its);
  }

  #touch(its: Case): void {
    this.#nextTrialMs = undefined;
    this.#dirty.add(its);
    this.#work.notify();
  }

  #sweep(): void {
    const now = this.#deps.now();
    for (const parked of this.#parked.values()) {
      if (provenAgeMs(parked.parkedAt, now) <= LIFETIME_MS) return;
      // What is on its way out may arrive: it is not counted as let go.
      if (!parked.handed) this.#lose(parked, "quarantine");
    }
  }

  #evict(): void {
    for (const parked of this.#parked.values()) {
      if (this.#parked.size <= MESSAGES && this.#bytes <= BYTES) return;
      if (!parked.handed) this.#lose(parked, "quarantine");
    }
  }

  #lose(parked: Parked, reason: "quarantine" | "damage"): void {
    if (!this.#forget(parked)) return;
    this.#deps.onLost(parked, reason, this.#table.del(messageKey(parked.place)));
    this.#advance(parked.in);
  }
}

function messageKey(place: number): string {
  return `m${hex(place)}`;
}
