/**
 * What the service must not forget: persistent sessions with their subscriptions, and messages
 * that wait for their receiver (lmq-protocol 6). Two tables of one store:
 *
 *     sessions   client id           -> JSON { subscriptions: { filter: qos } }
 *     messages   15 digits of a seq  -> header (JSON) and payload; the seq is the order of arrival
 *
 * Invariants
 * - `done` of `keep`, `putSession` and `dropSession` is called without an error only after a synced
 *   commit; all that wait share one. What a sender was told is thus safe from kill -9 and from a
 *   power cut.
 * - A message leaves the disk when its receiver acknowledged it, when it is over its age, or when
 *   the instance is over its limit, the oldest first. Removals need no sync: after a crash a
 *   receiver gets a message once more, which at-least-once allows.
 * - A message whose receiver acknowledged it before its write began is never written.
 * - In memory is one number for each waiting message; payloads stay on disk until their turn.
 *
 * Full disk or failing disk: the commit fails, `done` gets the error, the message is forgotten here
 * and its sender, who was told nothing, sends it again. A damaged record is counted, logged and
 * skipped. Start reads all records once to know what waits for whom.
 */
import type { Clock } from "../../agent/core/clock.ts";
import { describeError } from "../../agent/core/errors.ts";
import type { Logger } from "../../agent/core/log.ts";
import type { Store, Table } from "../../agent/store/store.ts";
import { messageCodec, type StoredMessage, type StoredSession, sessionCodec } from "./codec.ts";
import { type CommitItem, type Done, GroupCommit } from "./group-commit.ts";
import { Mailbox } from "./mailbox.ts";

export type { Qos, StoredMessage, StoredSession } from "./codec.ts";
export type { Done } from "./group-commit.ts";
export type { Mailbox, Taken } from "./mailbox.ts";

export interface StorageOptions {
  /** Waiting messages of all clients together. */
  readonly offlinePerInstance: number;
  readonly retentionMs: number;
}

/** How often the age of the oldest messages is looked at, in milliseconds. */
const PRUNE_INTERVAL_MS = 60_000;
/** Records read at a time while pruning and starting. */
const PAGE = 1_000;
/** A message on its way to the disk. */
interface Fresh {
  readonly message: StoredMessage;
  readonly item: CommitItem;
}

export class CloudStorage {
  readonly #options: StorageOptions;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #commits: GroupCommit;
  readonly #messages: Table<StoredMessage>;
  readonly #sessionTable: Table<StoredSession>;
  readonly #mailboxes = new Map<string, Mailbox>();
  /** Messages that are not on disk yet. */
  readonly #fresh = new Map<number, Fresh>();
  readonly #sessions = new Map<string, StoredSession>();
  #lastSeq = 0;
  /** No record with a key up to this one is left: scans start behind it, not at tombstones. */
  #prunedTo = "";
  #waiting = 0;
  #removedForLimit = 0;
  #expired = 0;
  #pruning: Promise<void> | undefined;

  constructor(
    options: StorageOptions,
    deps: { readonly store: Store; readonly clock: Clock; readonly log: Logger },
  ) {
    this.#options = options;
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#commits = new GroupCommit(deps.store);
    this.#messages = deps.store.table("cloud_messages", messageCodec);
    this.#sessionTable = deps.store.table("cloud_sessions", sessionCodec);
  }

  /** Reads what is there; from then on, until `signal` aborts, removes what is over its age. */
  async start(signal: AbortSignal): Promise<void> {
    for await (const [clientId, session] of pages(this.#sessionTable)) {
      this.#sessions.set(clientId, session);
    }
    for await (const [key, message] of pages(this.#messages)) {
      this.#lastSeq = Number(key);
      this.mailbox(message.clientId).add(this.#lastSeq, message.direct);
      this.#waiting++;
    }
    this.#log.info("storage read", { sessions: this.#sessions.size, messages: this.#waiting });
    void this.#pruneForever(signal);
  }

  /** Resolves when all that was asked for is on disk. */
  async stop(): Promise<void> {
    await this.#pruning;
    await this.#commits.idle();
  }

  /** The persistent sessions as they were at the start and as they were put since. */
  get sessions(): ReadonlyMap<string, StoredSession> {
    return this.#sessions;
  }

  /** Bytes on their way to the disk: who brings more should wait. */
  get pendingBytes(): number {
    return this.#commits.pendingBytes;
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
    const bytes = 256 + 128 * Object.keys(session.subscriptions).length;
    this.#commits.add(this.#sessionTable.put(clientId, session), bytes, done);
  }

  dropSession(clientId: string, done: Done): void {
    this.#sessions.delete(clientId);
    this.#commits.add(this.#sessionTable.del(clientId), 64, done);
  }

  /** What waits for this client; made on first use. */
  mailbox(clientId: string): Mailbox {
    let mailbox = this.#mailboxes.get(clientId);
    if (!mailbox) {
      mailbox = new Mailbox();
      this.#mailboxes.set(clientId, mailbox);
    }
    return mailbox;
  }

  /** True when something waits for this client. */
  holdsFor(clientId: string): boolean {
    return (this.#mailboxes.get(clientId)?.size ?? 0) > 0;
  }

  /** Lets go of an empty mailbox; whoever held it asks again. */
  releaseMailbox(clientId: string): void {
    if (this.#mailboxes.get(clientId)?.size === 0) this.#mailboxes.delete(clientId);
  }

  /** Keeps a message until its receiver has it; its number is its name here. */
  keep(message: StoredMessage, done: Done): number {
    const seq = ++this.#lastSeq;
    const mailbox = this.mailbox(message.clientId);
    mailbox.add(seq, message.direct);
    this.#waiting++;
    const write = this.#messages.put(keyOf(seq), message);
    const item = this.#commits.add(write, message.payload.length + 256, (error) => {
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
    if (fresh && this.#commits.cancel(fresh.item)) this.#fresh.delete(seq);
    else this.#commits.add(this.#messages.del(keyOf(seq)), 64);
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
      const message = await this.#messages.get(keyOf(seq));
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
    this.releaseMailbox(clientId);
    this.#waiting--;
    return true;
  }

  async #pruneForever(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#startPruning();
      await this.#clock.sleep(PRUNE_INTERVAL_MS, signal);
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
    for await (const [key, message] of pages(this.#messages, this.#prunedTo)) {
      const tooMany = this.#waiting > this.#options.offlinePerInstance;
      const tooOld = message.bornAt + this.#options.retentionMs <= this.#clock.wallMs();
      if (!tooMany && !tooOld) return;
      this.#prunedTo = key;
      if (!this.settle(message.clientId, Number(key))) continue;
      if (tooMany) this.#removedForLimit++;
      else this.#expired++;
    }
  }
}

function keyOf(seq: number): string {
  return String(seq).padStart(15, "0");
}

/**
 * A whole table in pages, so that no snapshot is held while its rows are worked on. A page of
 * nothing but damage is not the end of it.
 */
async function* pages<V>(table: Table<V>, after = ""): AsyncIterable<readonly [string, V]> {
  let gt = after;
  for (;;) {
    let count = 0;
    const damaged = (key: string): void => {
      count++;
      gt = key;
    };
    for await (const row of table.range({ gt, limit: PAGE, damaged })) {
      count++;
      gt = row[0];
      yield row;
    }
    if (count === 0) return;
  }
}
