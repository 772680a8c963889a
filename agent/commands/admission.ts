/**
 * One batch of well-formed commands: each gets its verdict in the order of arrival, the new ones
 * are written with one synced commit. The order of the checks is that of the design: journal,
 * policy, expiry, room.
 */
import { AssertionFailure } from "../core/assert.ts";
import { describeError, isHoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";
import type { Reservation } from "../outbox/outbox.ts";
import type { CommandEnvelope, ParsedCommand } from "../protocol/envelope.ts";
import type { ReplyError } from "../protocol/reply.ts";
import type { Counts } from "./counts.ts";
import type { Command } from "./dispatcher.ts";
import { type Journal, type JournalEntry, journalKey } from "./journal.ts";
import { type CommandsDeps, type CommandsOptions, REPLY_LANE } from "./options.ts";
import { mayReplyTo, type Refusal, refuseExpired, refuseUnsigned, replyTopicOf } from "./policy.ts";
import type { Queues } from "./queues.ts";
import type { Recovery } from "./recovery.ts";
import type { Addressee, Replies } from "./replies.ts";
import { pluginOf, type Ticket } from "./ticket.ts";
import type { Unrecorded, UnrecordedCommand } from "./unrecorded.ts";

export interface Candidate {
  readonly parsed: Extract<ParsedCommand, { kind: "command" | "invalid" }>;
  /** Bytes of the message. */
  readonly size: number;
}

export interface AdmissionDeps
  extends Pick<CommandsDeps, "store" | "outbox" | "clock" | "random" | "log"> {
  readonly journal: Journal;
  readonly queues: Queues;
  readonly replies: Replies;
  readonly recovery: Recovery;
  readonly unrecorded: Unrecorded;
  readonly counts: Counts;
}

interface AboutCommand {
  readonly to: Addressee;
  readonly digest: string;
  /** Bytes of the message. */
  readonly size: number;
  /** A record of the same command of this run, whose commit was reported as failed. */
  readonly stale: JournalEntry | undefined;
  /** The journal cannot be read now: it must not be written either, where the key may be known. */
  readonly unreadable: boolean;
}

/** What the journal says about a command's key. */
type Known =
  | { readonly state: "unknown"; readonly stale?: JournalEntry }
  | { readonly state: "known"; readonly entry: JournalEntry }
  /** An earlier run admitted it and did not end it: it may have taken effect. */
  | { readonly state: "left" }
  | { readonly state: "damaged" }
  | { readonly state: "unavailable" };

const FIRST_RETRY_MS = 1_000;
/** A command is what an operator mends a full device with. */
const MOST_IMPORTANT = 1;

export class Admission {
  readonly #options: CommandsOptions;
  readonly #deps: AdmissionDeps;
  /**
   * One batch at a time: between a look into the journal and the decision nobody else may admit,
   * or a command that was admitted and has ended in between would look unknown.
   */
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: CommandsOptions, deps: AdmissionDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /**
   * Decides and writes; never throws for a failing disk. The messages may be acknowledged when it
   * resolves, and then the returned function starts what was admitted and sends the answers.
   */
  admit(candidates: readonly Candidate[]): Promise<() => void> {
    const turn = this.#last.then(() => this.#admit(candidates));
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #admit(candidates: readonly Candidate[]): Promise<() => void> {
    const known = await this.#lookUpAll(candidates.map(keyOf));
    const afterwards: (() => void)[] = [];
    const fresh: Ticket[] = [];
    for (const [i, candidate] of candidates.entries()) {
      const verdict = this.#decide(candidate, known[i] as Known);
      if (typeof verdict === "function") afterwards.push(verdict);
      else fresh.push(verdict);
    }
    afterwards.push(...(await this.#write(fresh)));
    return () => {
      for (const action of afterwards) action();
    };
  }

  /** A ticket: to be written. A function: to be called once the message is acknowledged. */
  #decide(candidate: Candidate, found: Known): Ticket | (() => void) {
    const { id, from } = fieldsOf(candidate);
    const { digest } = candidate.parsed;
    const topic = replyTopicOf(from, this.#options);
    if (topic === undefined) return this.#silent("reply_to_refused");
    const to = { from, topic };
    // A ticket of this very batch, or one that has not ended, knows more than the disk.
    const ticket = this.#deps.queues.find(keyOf(candidate));
    const entry = ticket?.entry ?? (found.state === "known" ? found.entry : undefined);
    if (entry) {
      return entry.digest === digest
        ? this.#repeat(to, entry, ticket)
        : this.#silent("id_conflict");
    }
    const early = this.#withoutJournal(candidate, to, found);
    if (early) return early;
    if (candidate.parsed.kind === "invalid") {
      const error = { code: "envelope_invalid", message: candidate.parsed.message };
      return this.#refuse(to, id, { status: "rejected", error });
    }
    const stale = found.state === "unknown" ? found.stale : undefined;
    const unreadable = found.state === "unavailable";
    const more = { to, digest, size: candidate.size, stale, unreadable };
    return this.#judge(candidate.parsed.envelope, more);
  }

  /** What ran without a record, and what nobody can know now; undefined: the checks go on. */
  #withoutJournal(candidate: Candidate, to: Addressee, { state }: Known): (() => void) | undefined {
    const { unrecorded } = this.#deps;
    const { parsed } = candidate;
    const key = keyOf(candidate);
    const ran = unrecorded.find(key);
    if (ran) {
      return ran.digest === parsed.digest
        ? () => unrecorded.repeat(to, key)
        : this.#silent("id_conflict");
    }
    if (state === "damaged") return this.#silent("journal_damaged");
    const mayGoOn =
      state === "unavailable" &&
      parsed.kind === "command" &&
      unrecorded.covers(parsed.envelope.command);
    if (state === "left" || (state === "unavailable" && !mayGoOn)) {
      return this.#storageUnavailable(to, fieldsOf(candidate).id);
    }
    return undefined;
  }

  #judge(envelope: CommandEnvelope, more: AboutCommand): Ticket | (() => void) {
    const { clock, outbox, journal, queues } = this.#deps;
    const { replyTo, id } = envelope;
    if (replyTo !== undefined && !mayReplyTo(replyTo, this.#options)) {
      return this.#silent("reply_to_refused");
    }
    const now = { trusted: clock.trusted(), wallMs: clock.wallMs() };
    const refusal = refuseUnsigned(envelope, this.#options) ?? refuseExpired(envelope, now);
    if (refusal) return this.#refuse(more.to, id, refusal);
    if (more.unreadable) {
      const command = toCommand(envelope);
      const { to, digest } = more;
      const progress = envelope.progress ?? false;
      return this.#runUnrecorded({ key: journalKey(command), command, digest, to, progress });
    }
    if (journal.full) return this.#busy(more.to, id, "The record of commands is full.");
    if (queues.isFull(pluginOf(envelope.command)))
      return this.#busy(more.to, id, "Too many commands are waiting.");
    const reservation = outbox.reserve(REPLY_LANE, limits.replyReservationBytes);
    if (!reservation) return this.#busy(more.to, id, "There is no room for the reply.");
    return this.#makeTicket(envelope, reservation, more);
  }

  #makeTicket(envelope: CommandEnvelope, reservation: Reservation, more: AboutCommand): Ticket {
    const { journal, queues } = this.#deps;
    const command = toCommand(envelope);
    const fields = { command, digest: more.digest, replyTo: more.to.topic };
    const ticket: Ticket = {
      key: journalKey(command),
      entry: journal.makeEntry(fields, more.size, more.stale),
      progress: envelope.progress ?? false,
      reservation,
      state: "admitting",
      noticed: false,
      ended: new AbortController(),
    };
    queues.hold(ticket);
    return ticket;
  }

  /** One synced commit for all of them; what each then does once its message is acknowledged. */
  async #write(tickets: readonly Ticket[]): Promise<readonly (() => void)[]> {
    if (tickets.length === 0) return [];
    const { store, journal, queues, counts, log } = this.#deps;
    try {
      const writes = tickets.flatMap(({ entry }) => journal.admission(entry));
      await store.commit(writes, { sync: true, grows: MOST_IMPORTANT });
    } catch (error) {
      if (!isHoldfastError(error)) throw error;
      log.warn("commands not admitted", { count: tickets.length, code: error.code });
      return tickets.map((ticket) => {
        queues.letGo(ticket);
        ticket.reservation?.release();
        const { key, progress } = ticket;
        const { command, digest, replyTo } = ticket.entry;
        const to = { from: command.from, topic: replyTo };
        return this.#runUnrecorded({ key, command, digest, to, progress });
      });
    }
    await this.#makeRoom();
    return tickets.map((ticket) => {
      journal.admitted(ticket.entry);
      counts.add("admitted");
      return () => queues.enqueue(ticket);
    });
  }

  /** Pruning keeps pace with admission: one step looks at as many entries as a batch admits. */
  async #makeRoom(): Promise<void> {
    if (!this.#deps.journal.crowded) return;
    try {
      await this.#deps.journal.prune();
    } catch (error) {
      this.#deps.log.warn("journal not pruned", { error: describeError(error) });
    }
  }

  /** What an earlier run left unfinished is ended first, and then answered like all that ended. */
  async #lookUpAll(keys: readonly string[]): Promise<readonly Known[]> {
    const known = await Promise.all(keys.map((key) => this.#lookUp(key)));
    const left = keys.filter((_key, i) => known[i]?.state === "left");
    if (left.length === 0) return known;
    try {
      await this.#deps.recovery.end(left);
    } catch (error) {
      if (!isHoldfastError(error)) throw error;
      this.#deps.log.warn("commands not interrupted", { error: describeError(error) });
    }
    return Promise.all(
      keys.map((key, i) => (known[i]?.state === "left" ? this.#lookUp(key) : (known[i] as Known))),
    );
  }

  async #lookUp(key: string): Promise<Known> {
    const { queues, journal } = this.#deps;
    // Before the disk is asked: the command may end while it answers with what was there before.
    const ticket = queues.find(key);
    if (ticket) return { state: "known", entry: ticket.entry };
    try {
      const entry = await journal.find(key);
      if (!entry) return { state: "unknown" };
      if (entry.final) return { state: "known", entry };
      // What this run admitted is in memory until it has ended. So this one's commit was reported
      // as failed, and it never ran. Of an earlier run nobody knows that.
      return journal.isOfThisRun(entry) ? { state: "unknown", stale: entry } : { state: "left" };
    } catch (error) {
      if (error instanceof AssertionFailure) throw error;
      // An unreadable entry is proof that the id was used; whether it took effect nobody can tell.
      return { state: isHoldfastError(error, "store_damaged") ? "damaged" : "unavailable" };
    }
  }

  /** The same bytes again: the one final reply as it was, or word that it is under way. */
  #repeat(to: Addressee, entry: JournalEntry, ticket: Ticket | undefined): () => void {
    const { counts, replies } = this.#deps;
    return () => {
      counts.add("repeated");
      if (entry.final) replies.repeat(to, Buffer.from(entry.final.reply, "utf8"));
      else if (ticket?.progress) {
        const status = ticket.state === "running" ? "running" : "accepted";
        replies.send(to, { id: entry.command.id, status });
      }
    };
  }

  #silent(reason: string): () => void {
    return () => this.#deps.counts.add(reason);
  }

  #refuse(to: Addressee, id: string, { status, error }: Refusal): () => void {
    return () => {
      this.#deps.counts.add(error.code);
      this.#deps.replies.send(to, { id, status, error });
    };
  }

  #busy(to: Addressee, id: string, message: string): () => void {
    return this.#comeAgain(to, id, { code: "busy", message });
  }

  #storageUnavailable(to: Addressee, id: string): () => void {
    const message = "The disk of the device does not take the command now.";
    return this.#comeAgain(to, id, { code: "storage_unavailable", message });
  }

  /** The disk takes no record of it: it runs without one if it only reads. */
  #runUnrecorded(given: UnrecordedCommand): () => void {
    return (
      this.#deps.unrecorded.take(given) ?? this.#storageUnavailable(given.to, given.command.id)
    );
  }

  /** Between one and three seconds, so that a crowd does not come back at once. */
  #comeAgain(to: Addressee, id: string, error: ReplyError): () => void {
    return () => {
      const retryAfterMs = Math.round(FIRST_RETRY_MS * (1 + 2 * this.#deps.random.float()));
      this.#deps.counts.add(error.code);
      this.#deps.replies.send(to, { id, status: "busy", error, retryAfterMs });
    };
  }
}

function fieldsOf({ parsed }: Candidate): { readonly id: string; readonly from: string } {
  return parsed.kind === "command" ? parsed.envelope : parsed;
}

function keyOf(candidate: Candidate): string {
  return journalKey(fieldsOf(candidate));
}

function toCommand(envelope: CommandEnvelope): Command {
  const { id, from, command: name, params, issuedAt, expiresAt } = envelope;
  return { id, from, name, params, issuedAt, expiresAt };
}
