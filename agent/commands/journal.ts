/**
 * The durable record of commands: what makes a command id take effect at most once (I4) and keeps
 * its one final reply (I5).
 *
 * On disk, two tables. `journal`: `<id>/<hash of the sender>` -> the entry, with the command and,
 * once it has ended, the bytes of its final reply. `journal_order`: a dense number -> the key and
 * what pruning needs to know, so that listing and pruning read small records in order of admission.
 *
 * Full: finished entries go by age, count and bytes, but none before its `expiresAt`, because
 * forgetting a command that can still arrive would let it run twice. Over twice the bounds `full`
 * says so, and nothing more is admitted. Entries that have not ended never go.
 *
 * While the clock is not trusted, the wall time says nothing about `expiresAt`, and a board whose
 * clock never is must not answer `busy` for good (I12). Then entries go only over the bounds, and
 * only by time that is proven: when more monotonic time has passed since the admission than lies
 * between `issuedAt` and `expiresAt`, and a margin. For an entry of an earlier boot that is the time
 * of this run. A board that boots too often to prove anything forgets entries of earlier boots by
 * count and bytes, about the oldest first, and keeps at least one and a half times the bounds.
 *
 * What that means for I4. A command that is forgotten by proven time has expired for its sender,
 * who repeats it no more, and the service does not deliver again what was acknowledged; whenever
 * the clock is trusted it is refused as expired. Only bytes that somebody replays after their life,
 * to a device that still does not know the time and has admitted more than the bounds since, would
 * run a second time. By count the same holds for bytes that are repeated within their life but after
 * a boot, when 1.5 times the bounds of other commands are recorded.
 *
 * Corrupt: an entry that cannot be read keeps its key, so `find` throws `store_damaged`, and the
 * caller must not run that command. Restarted: `open` counts, and tells which have not ended.
 */
import { createHash } from "node:crypto";
import { assert } from "../core/assert.ts";
import type { Clock } from "../core/clock.ts";
import { HoldfastError, isHoldfastError } from "../core/errors.ts";
import { jsonCodec, type Store, type Table, type Write } from "../store/store.ts";
import type { Command } from "./dispatcher.ts";
import { bounds, type JournalBounds } from "./options.ts";

export interface JournalEntry {
  readonly seq: number;
  readonly command: Command;
  /** SHA-256 of the bytes as sent. */
  readonly digest: string;
  readonly replyTo: string;
  /** The run of the agent that admitted it. */
  readonly runId: string;
  /** The boot of the kernel, and the monotonic time in it, of its admission. */
  readonly bootId: string;
  readonly monotonicMs: number;
  /** Unix milliseconds. */
  readonly admittedAt: number;
  /** What the entry takes on disk, about. */
  readonly bytes: number;
  readonly final?: JournalFinal;
}

export interface JournalFinal {
  readonly status: string;
  /** Unix milliseconds. */
  readonly at: number;
  /** The payload of the final reply, JSON text. */
  readonly reply: string;
}

interface OrderRecord {
  readonly key: string;
  readonly bootId: string;
  readonly monotonicMs: number;
  /** From its issue to its expiry, by its sender's clock. */
  readonly lifeMs: number;
  readonly admittedAt: number;
  readonly expiresAt: number;
  readonly bytes: number;
  readonly final: boolean;
}

/** What a step of pruning has taken so far: entries, and their bytes. */
interface Freed {
  readonly gone: number;
  readonly freed: number;
}

/** What an entry takes beside its command and its reply. */
const ENTRY_OVERHEAD_BYTES = 512;
const SEQ_DIGITS = 16;

/** Names a command: key and id, for an unsigned one sender and id. Printable ASCII. */
export function journalKey(command: Pick<Command, "id" | "kid" | "from">): string {
  const who = command.kid === undefined ? `from\0${command.from}` : `kid\0${command.kid}`;
  return `${command.id}/${createHash("sha256").update(who).digest("hex").slice(0, 32)}`;
}

interface JournalOptions extends JournalBounds {
  readonly runId: string;
  readonly bootId: string;
}

export class Journal {
  readonly #bounds: JournalBounds;
  readonly #runId: string;
  readonly #bootId: string;
  /** Monotonic time when this run began. */
  readonly #begunMs: number;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #entries: Table<JournalEntry>;
  readonly #order: Table<OrderRecord>;
  #lastSeq = 0;
  /** The last number that was read at the start. */
  #openedSeq = 0;
  #count = 0;
  #bytes = 0;
  /** Where the next step of pruning goes on; wraps at the end. */
  #pruneFrom = "";
  #pruning = false;

  constructor(options: JournalOptions, deps: { readonly store: Store; readonly clock: Clock }) {
    this.#bounds = options;
    this.#runId = options.runId;
    this.#bootId = options.bootId;
    this.#begunMs = deps.clock.monotonicMs();
    this.#store = deps.store;
    this.#clock = deps.clock;
    this.#entries = deps.store.table("journal", jsonCodec(toEntry));
    this.#order = deps.store.table("journal_order", jsonCodec(toOrder));
  }

  get count(): number {
    return this.#count;
  }

  /** Nothing more may be admitted until something was pruned. */
  get full(): boolean {
    const { maxEntries, maxBytes } = this.#bounds;
    const factor = bounds.journalOverflow;
    return this.#count >= maxEntries * factor || this.#bytes >= maxBytes * factor;
  }

  /** Over the bounds that pruning keeps, where it can. */
  get crowded(): boolean {
    return this.#isOver(1);
  }

  /** Reads the order table once; gives the keys of the commands that have not ended. */
  async open(): Promise<readonly string[]> {
    const unfinished: string[] = [];
    this.#count = 0;
    this.#bytes = 0;
    for (let gt = "", seen = -1; seen !== 0; ) {
      seen = 0;
      // Damaged or not: its number is taken, and more may lie behind it.
      const pass = (key: string): void => {
        gt = key;
        seen++;
        this.#lastSeq = Number(key);
      };
      const page = { gt, limit: bounds.openStep, damaged: pass };
      for await (const [key, record] of this.#order.range(page)) {
        pass(key);
        this.#count++;
        this.#bytes += record.bytes;
        if (!record.final) unfinished.push(record.key);
      }
    }
    this.#openedSeq = this.#lastSeq;
    return unfinished;
  }

  isOfThisRun(entry: JournalEntry): boolean {
    return entry.runId === this.#runId;
  }

  /** By key, without those that cannot be read; `last` is where to go on, undefined at the end. */
  async entriesAfter(
    gt: string,
    limit: number,
  ): Promise<{
    readonly entries: readonly { readonly key: string; readonly entry: JournalEntry }[];
    readonly last: string | undefined;
  }> {
    const entries: { key: string; entry: JournalEntry }[] = [];
    let last: string | undefined;
    const damaged = (key: string): void => {
      last = key;
    };
    for await (const [key, entry] of this.#entries.range({ gt, limit, damaged })) {
      entries.push({ key, entry });
      last = key;
    }
    return { entries, last };
  }

  /** Whether the order names this entry; not if its record there is damaged. */
  async hasPlace(entry: JournalEntry): Promise<boolean> {
    try {
      const record = await this.#order.get(seqKey(entry.seq));
      return record?.key === journalKey(entry.command);
    } catch (error) {
      if (isHoldfastError(error, "store_damaged")) return false;
      throw error;
    }
  }

  /**
   * Counts an entry of an earlier run that has no place in the order; `admission` or `finish` then
   * writes it. Its number may be a new command's by now if the start did not see it.
   */
  adopt(entry: JournalEntry): JournalEntry {
    this.admitted(entry);
    return entry.seq <= this.#openedSeq ? entry : { ...entry, seq: ++this.#lastSeq };
  }

  /** Throws `store_damaged` for an entry that was there and cannot be read. */
  find(key: string): Promise<JournalEntry | undefined> {
    return this.#entries.get(key);
  }

  /**
   * A new entry, not yet written. `replaces`: one of the same command whose commit was reported as
   * failed and that is on disk all the same; its number is used again.
   */
  makeEntry(
    fields: Pick<JournalEntry, "command" | "digest" | "replyTo">,
    size: number,
    replaces?: JournalEntry,
  ): JournalEntry {
    const seq = replaces?.seq ?? ++this.#lastSeq;
    return {
      ...fields,
      ...{ seq, runId: this.#runId, bootId: this.#bootId },
      monotonicMs: this.#clock.monotonicMs(),
      admittedAt: this.#clock.wallMs(),
      bytes: size + ENTRY_OVERHEAD_BYTES,
    };
  }

  admission(entry: JournalEntry): readonly Write[] {
    const key = journalKey(entry.command);
    return [this.#entries.put(key, entry), this.#order.put(seqKey(entry.seq), toRecord(entry))];
  }

  /** To be called once for each entry whose admission was committed. */
  admitted(entry: JournalEntry): void {
    this.#count++;
    this.#bytes += entry.bytes;
  }

  /** The writes that end a command, to share one synced commit with its reply. */
  finish(entry: JournalEntry, final: JournalFinal): readonly Write[] {
    assert(entry.final === undefined, "a command ends once");
    const ended = { ...entry, final, bytes: entry.bytes + final.reply.length };
    return this.admission(ended);
  }

  finished(final: JournalFinal): void {
    this.#bytes += final.reply.length;
  }

  /**
   * One bounded step: looks at some entries and forgets those that may be. While it is full, on to
   * the newest: what can go may be anywhere. Resolves with how many went; throws
   * `store_not_writable`.
   */
  async prune(): Promise<number> {
    if (this.#pruning || (!this.#clock.trusted() && !this.crowded)) return 0;
    this.#pruning = true;
    try {
      let gone = 0;
      do gone += await this.#pruneStep();
      while (this.full && this.#pruneFrom !== "");
      return gone;
    } finally {
      this.#pruning = false;
    }
  }

  /** Newest first; `before` is the number of the last one that was seen, undefined at the start. */
  async list(
    before: number | undefined,
    limit: number,
  ): Promise<{ readonly entries: readonly JournalEntry[]; readonly next: number | undefined }> {
    const lte = before === undefined ? {} : { lte: seqKey(before - 1) };
    const entries: JournalEntry[] = [];
    let seen = 0;
    let last: number | undefined;
    const pass = (key: string): void => {
      seen++;
      last = Number(key);
    };
    const range = { ...lte, limit, reverse: true, damaged: pass };
    for await (const [key, record] of this.#order.range(range)) {
      pass(key);
      const entry = await this.#readOrSkip(record.key);
      if (entry) entries.push(entry);
    }
    return { entries, next: seen === limit ? last : undefined };
  }

  /** All commands with this id: several senders may have used it. */
  async *withId(id: string): AsyncIterable<JournalEntry> {
    const range = { gt: `${id}/`, lte: `${id}/~`, limit: 100 };
    for await (const [, entry] of this.#entries.range(range)) yield entry;
  }

  async #pruneStep(): Promise<number> {
    const writes: Write[] = [];
    let freed = 0;
    let gone = 0;
    let seen = 0;
    let last = "";
    const pass = (key: string): void => {
      seen++;
      last = key;
    };
    const range = { gt: this.#pruneFrom, limit: bounds.pruneStep, damaged: pass };
    for await (const [key, record] of this.#order.range(range)) {
      pass(key);
      if (!this.#mayForget(record, { gone, freed })) continue;
      writes.push(this.#entries.del(record.key), this.#order.del(key));
      freed += record.bytes;
      gone++;
    }
    // Not synced: a deletion that a power cut takes back is made again.
    if (gone > 0) await this.#store.commit(writes, { sync: false });
    // A step that came to the end goes back to the oldest at once, or new ones would hold it there.
    this.#pruneFrom = seen === bounds.pruneStep ? last : "";
    this.#count -= gone;
    this.#bytes -= freed;
    return gone;
  }

  #mayForget(record: OrderRecord, so: Freed): boolean {
    if (!record.final) return false;
    if (!this.#clock.trusted()) return this.#mayForgetUntimed(record, so);
    const nowMs = this.#clock.wallMs();
    if (record.expiresAt >= nowMs) return false;
    return nowMs - record.admittedAt > this.#bounds.maxAgeMs || this.#isOver(1, so);
  }

  #mayForgetUntimed(record: OrderRecord, so: Freed): boolean {
    const ofThisBoot = record.bootId === this.#bootId;
    const sinceMs = ofThisBoot ? record.monotonicMs : this.#begunMs;
    const provenMs = this.#clock.monotonicMs() - sinceMs;
    if (provenMs > record.lifeMs + bounds.lifeMarginMs) return this.#isOver(1, so);
    return !ofThisBoot && this.#isOver(bounds.journalFloor, so);
  }

  /** Whether more is recorded than this multiple of the bounds. */
  #isOver(factor: number, { gone, freed }: Freed = { gone: 0, freed: 0 }): boolean {
    const { maxEntries, maxBytes } = this.#bounds;
    return this.#count - gone > maxEntries * factor || this.#bytes - freed > maxBytes * factor;
  }

  async #readOrSkip(key: string): Promise<JournalEntry | undefined> {
    try {
      return await this.#entries.get(key);
    } catch (error) {
      if (isHoldfastError(error, "store_damaged")) return undefined;
      throw error;
    }
  }
}

function seqKey(seq: number): string {
  return String(Math.max(seq, 0)).padStart(SEQ_DIGITS, "0");
}

function toRecord(entry: JournalEntry): OrderRecord {
  const { command, bootId, monotonicMs, admittedAt, bytes } = entry;
  const { issuedAt, expiresAt } = command;
  const key = journalKey(command);
  const lifeMs = expiresAt - issuedAt;
  return { key, bootId, monotonicMs, lifeMs, admittedAt, expiresAt, bytes, final: !!entry.final };
}

/** The store's checksum vouches for the content, so these check only what table it is from. */
function toEntry(value: unknown): JournalEntry {
  const entry = value as JournalEntry;
  if (typeof entry?.command?.id !== "string") throw new HoldfastError("store_damaged");
  return entry;
}

function toOrder(value: unknown): OrderRecord {
  const record = value as OrderRecord;
  if (typeof record?.key !== "string") throw new HoldfastError("store_damaged");
  return record;
}
