/**
 * What the service must not forget: persistent sessions with their subscriptions, and messages
 * that wait for their receiver (lmq-protocol 6). Tables of one store:
 *
 *     cloud_sessions                  client id           -> JSON { subscriptions: { filter: qos } }
 *     cloud_messages, cloud_waiting   15 digits of a seq  -> see message-table.ts
 *     cloud_state                     "age"               -> see age.ts
 *
 * Invariants
 * - `done` of `keep`, `putSession` and `dropSession` is called without an error only after a synced
 *   commit; all that wait share one. What a sender was told is thus safe from kill -9 and from a
 *   power cut.
 * - A message leaves the disk when its receiver acknowledged it, when it is over its age, or when
 *   the instance is over its limit, the oldest first. Removals need no sync: after a crash a
 *   receiver gets a message once more, which at-least-once allows.
 * - A message whose receiver acknowledged it before its write began is never written.
 * - In memory is one number for each waiting message and one mailbox for each client that has some;
 *   payloads stay on disk until their turn. Clients without a persistent session, whose ids may be
 *   made up, have `unknownTargets` mailboxes in all; over that the one that was made first goes with
 *   what is in it.
 *
 * Full disk or failing disk: the commit fails, `done` gets the error, the message is forgotten here
 * and its sender, who was told nothing, sends it again. A damaged record is counted, logged and
 * skipped. Start reads the small records once to know what waits for whom.
 */
import type { Clock } from "../../agent/core/clock.ts";
import { describeError } from "../../agent/core/errors.ts";
import type { Logger } from "../../agent/core/log.ts";
import type { Store, Table } from "../../agent/store/store.ts";
import { Age, ageCodec, type SavedAge } from "./age.ts";
import { type StoredMessage, type StoredSession, sessionCodec } from "./codec.ts";
import { type CommitItem, type Done, GroupCommit } from "./group-commit.ts";
import { Mailbox } from "./mailbox.ts";
import { MessageTable } from "./message-table.ts";
import { pages } from "./pages.ts";

export type { Age } from "./age.ts";
export type { Qos, StoredMessage, StoredSession } from "./codec.ts";
export type { Done, GroupCommit, TakenWrites } from "./group-commit.ts";
export type { Mailbox, Taken } from "./mailbox.ts";

export interface StorageOptions {
  /** Waiting messages of all clients together. */
  readonly offlinePerInstance: number;
  readonly retentionMs: number;
  /** Clients without a persistent session for whom something may wait. */
  readonly unknownTargets: number;
}

export interface StorageDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  /** Whether the store had to be repaired at its start: what it lost is looked for then. */
  readonly wasRepaired?: () => boolean;
}

/** How often the age of the oldest messages is looked at, in milliseconds. */
const PRUNE_INTERVAL_MS = 60_000;
const AGE = "age";
/** A message on its way to the disk. */
interface Fresh {
  readonly message: StoredMessage;
  readonly item: CommitItem;
}

export class CloudStorage {
  readonly #options: StorageOptions;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #wasRepaired: () => boolean;
  /** For others who write into the same store: one sync for all. */
  readonly commits: GroupCommit;
  /** By which everything here grows old. */
  readonly age: Age;
  readonly #messages: MessageTable;
  readonly #sessionTable: Table<StoredSession>;
  readonly #state: Table<SavedAge>;
  readonly #mailboxes = new Map<string, Mailbox>();
  /** Those of clients without a persistent session, in the order in which they were made. */
  readonly #unknown = new Set<string>();
  /** Messages that are not on disk yet. */
  readonly #fresh = new Map<number, Fresh>();
  readonly #sessions = new Map<string, StoredSession>();
  #lastSeq = 0;
  /** No message up to this one is left: scans start behind it, not at tombstones. */
  #prunedTo = 0;
  #waiting = 0;
  #removedForLimit = 0;
  #expired = 0;
  #pruning: Promise<void> | undefined;

  constructor(options: StorageOptions, deps: StorageDeps) {
    this.#options = options;
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#wasRepaired = deps.wasRepaired ?? (() => false);
    this.commits = new GroupCommit(deps.store);
    this.#messages = new MessageTable(deps.store);
    this.#sessionTable = deps.store.table("cloud_sessions", sessionCodec);
    this.#state = deps.store.table("cloud_state", ageCodec);
    this.age = new Age(options.retentionMs, deps.clock);
  }

  /** Reads what is there; from then on, until `signal` aborts, removes what is over its age. */
  async start(signal: AbortSignal): Promise<void> {
    for await (const [clientId, session] of pages(this.#sessionTable)) {
      this.#sessions.set(clientId, session);
    }
    const saved = await this.#state.get(AGE).catch(() => undefined);
    this.age.start(saved);
    const isWhole = saved !== undefined && !this.#wasRepaired() && (await this.#load());
    if (!isWhole) await this.#rebuild();
    this.saveAge();
    this.#log.info("storage read", { sessions: this.#sessions.size, messages: this.#waiting });
    void this.#pruneForever(signal);
  }

  /** Resolves when all that was asked for is on disk. */
  async stop(): Promise<void> {
    await this.#pruning;
    this.saveAge();
    await this.commits.idle();
  }

  /** The persistent sessions as they were at the start and as they were put since. */
  get sessions(): ReadonlyMap<string, StoredSession> {
    return this.#sessions;
  }

  /** Bytes on their way to the disk: who brings more should wait. */
  get pendingBytes(): number {
    return this.commits.pendingBytes;
  }

  get stats(): { waiting: number; removedForLimit: number; expired: number } {
    return {
      waiting: this.#waiting,
      removedForLimit: this.#removedForLimit,
      expired: this.#expired,
    };
  }

  putSession(clientId: string, session: StoredSession, done: Done): void {
    this.#sessions.set(clientId, session);
    this.#unknown.delete(clientId);
    const bytes = 256 + 128 * Object.keys(session.subscriptions).length;
    this.commits.add([this.#sessionTable.put(clientId, session)], bytes, done);
  }

  dropSession(clientId: string, done: Done): void {
    this.#sessions.delete(clientId);
    if (this.#mailboxes.has(clientId)) this.#unknown.add(clientId);
    this.#evict();
    this.commits.add([this.#sessionTable.del(clientId)], 64, done);
  }

  /** What waits for this client; undefined when nothing does. */
  mailbox(clientId: string): Mailbox | undefined {
    return this.#mailboxes.get(clientId);
  }

  /** Keeps a message until its receiver has it; its number is its name here. */
  keep(message: StoredMessage, done: Done): number {
    const seq = ++this.#lastSeq;
    this.#add(message.clientId, seq, message.direct);
    const writes = this.#messages.put(seq, message, this.age.ms);
    const item = this.commits.add(writes, message.payload.length + 256, (error) => {
      this.#fresh.delete(seq);
      if (error) this.#forget(message.clientId, seq);
      done(error);
    });
    this.#fresh.set(seq, { message, item });
    if (this.#waiting > this.#options.offlinePerInstance) this.#startPruning();
    return seq;
  }

  /** The receiver has it, or it was dropped: gone, also from the disk. False when it was before. */
  settle(clientId: string, seq: number): boolean {
    if (!this.#forget(clientId, seq)) return false;
    const fresh = this.#fresh.get(seq);
    if (fresh && this.commits.cancel(fresh.item)) this.#fresh.delete(seq);
    else this.commits.add(this.#messages.del(seq), 64);
    return true;
  }

  /** A clean session forgets what came by subscription; what was sent to it directly stays. */
  dropSubscribed(clientId: string): void {
    const mailbox = this.#mailboxes.get(clientId);
    for (const seq of mailbox?.subscribedSeqs() ?? []) this.settle(clientId, seq);
  }

  /** Undefined when it is gone or its record is damaged; it is settled then. */
  async read(clientId: string, seq: number): Promise<StoredMessage | undefined> {
    const fresh = this.#fresh.get(seq);
    if (fresh) return fresh.message;
    try {
      const message = await this.#messages.get(seq);
      if (!message) this.settle(clientId, seq);
      return message;
    } catch (error) {
      this.#log.error("message unreadable", { clientId, seq, error: describeError(error) });
      this.settle(clientId, seq);
      return undefined;
    }
  }

  #forget(clientId: string, seq: number): boolean {
    const mailbox = this.#mailboxes.get(clientId);
    if (!mailbox?.remove(seq)) return false;
    if (mailbox.size === 0) {
      this.#mailboxes.delete(clientId);
      this.#unknown.delete(clientId);
    }
    this.#waiting--;
    return true;
  }

  #add(clientId: string, seq: number, direct: boolean): void {
    let mailbox = this.#mailboxes.get(clientId);
    if (!mailbox) {
      mailbox = new Mailbox();
      this.#mailboxes.set(clientId, mailbox);
      if (!this.#sessions.has(clientId)) this.#unknown.add(clientId);
      this.#evict();
    }
    mailbox.add(seq, direct);
    this.#waiting++;
  }

  /** Sees to the bound of mailboxes for clients without a session. */
  #evict(): void {
    while (this.#unknown.size > this.#options.unknownTargets) {
      const [clientId = ""] = this.#unknown;
      for (const seq of this.#mailboxes.get(clientId)?.seqs() ?? []) {
        if (this.settle(clientId, seq)) this.#removedForLimit++;
      }
      this.#unknown.delete(clientId);
    }
  }

  /** False when something of it could not be read. */
  async #load(): Promise<boolean> {
    let isWhole = true;
    const damaged = (): void => {
      isWhole = false;
    };
    for await (const [seq, { clientId, direct }] of this.#messages.entries(0, damaged)) {
      this.#lastSeq = seq;
      this.#add(clientId, seq, direct);
    }
    return isWhole;
  }

  async #rebuild(): Promise<void> {
    const { made, lost } = await this.#messages.rebuild(this.age.ms);
    if (made + lost > 0) this.#log.warn("waiting messages looked through", { made, lost });
    this.#mailboxes.clear();
    this.#unknown.clear();
    this.#waiting = 0;
    await this.#load();
  }

  /** For who keeps something by its age while nothing waits here. */
  saveAge(): void {
    this.commits.add([this.#state.put(AGE, this.age.save())], 64);
  }

  async #pruneForever(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#startPruning();
      await this.#clock.sleep(PRUNE_INTERVAL_MS, signal);
      // A kill costs at most one interval of age.
      if (this.#waiting > 0 && !signal.aborted) this.saveAge();
    }
  }

  #startPruning(): void {
    this.#pruning ??= this.#prune()
      .catch((error: unknown) => {
        this.#log.error("pruning failed", { error: describeError(error) });
      })
      .finally(() => {
        this.#pruning = undefined;
      });
  }

  /** From the oldest on, until one is neither too old nor one too many. */
  async #prune(): Promise<void> {
    for await (const [seq, { clientId, keptAtMs }] of this.#messages.entries(this.#prunedTo)) {
      const tooMany = this.#waiting > this.#options.offlinePerInstance;
      if (!tooMany && !this.age.isOver(keptAtMs)) return;
      this.#prunedTo = seq;
      if (!this.settle(clientId, seq)) continue;
      if (tooMany) this.#removedForLimit++;
      else this.#expired++;
    }
  }
}
