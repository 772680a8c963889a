/**
 * Commands: from a message on our P2P topic to its one final reply.
 *
 * Promises kept here: I4 (a command id takes effect at most once), I5 (every admitted command ends
 * in exactly one final state, whose reply is delivered), I14 in part (who is not on the list of
 * unsigned commands is refused; signatures are not checked yet, so a signed command is acknowledged,
 * counted and not obeyed).
 *
 * A command's way: `intake` reads and acknowledges, `admission` decides and writes the journal,
 * `queues` run it through the dispatcher, `finish` ends it. Admitted means written to the journal
 * and synced, with room held in the reply lane for its final reply; only then is the message
 * acknowledged. The end and its reply are one synced commit. In between the command is in memory.
 *
 * Invariants
 * - A key (sender and id) is in the journal from its admission until after its `expiresAt`; the
 *   same bytes are answered from there, other bytes under the same key are not answered.
 * - A final reply is sent only for what the journal holds as ended, with the bytes it holds.
 *   Refusals and `busy` are said before admission and are not recorded.
 * - Nothing of a sender's is in memory without a bound: messages before the decision, commands that
 *   wait, replies that are not promised, senders whose rate is remembered.
 *
 * Full (queue, journal or reply lane): `busy` with `retryAfterMs`; nothing is recorded. A disk that
 * does not take writes: `busy`, code `storage_unavailable`, but for commands that only read, which run
 * without a record (`unrecorded.ts`); results wait in memory and are written when it does again. Restarted: `start` ends every unfinished command as `interrupted`, in one
 * synced commit, before anything is read. If that fails (disk, no room) they are ended in the
 * background, and until then count as running. What an earlier run left and the start did not see,
 * because its place in the order is damaged, is ended by its repetition or by a look over all
 * entries after the start. Corrupt: a command whose entry cannot be read is never run again and not
 * answered.
 */
import type { Component } from "../core/component.ts";
import { describeError } from "../core/errors.ts";
import type { JsonObject } from "../core/json.ts";
import { Counts } from "./counts.ts";
import { Finisher } from "./finish.ts";
import { Intake } from "./intake.ts";
import { Journal, type JournalEntry, journalKey } from "./journal.ts";
import {
  bounds,
  type CommandsDeps,
  type CommandsOptions,
  defaultJournalBounds,
  type Inbound,
  type Router,
} from "./options.ts";
import { Queues } from "./queues.ts";
import { Recovery } from "./recovery.ts";
import { Replies } from "./replies.ts";
import { Unrecorded } from "./unrecorded.ts";

export type { Command, CommandResult, Dispatcher } from "./dispatcher.ts";
export type { CommandsDeps, CommandsOptions, Inbound, Router } from "./options.ts";

export interface CommandsStats {
  readonly queued: number;
  readonly running: number;
  /** Entries in the journal. */
  readonly recorded: number;
  /** Ended since the process started. */
  readonly finished: number;
  /** Refused before admission, `busy` included, since the process started. */
  readonly rejected: number;
  /** What happened how often since the process started; the names are those of the code. */
  readonly counts: Readonly<Record<string, number>>;
}

/** A command as lists show it. Times are Unix milliseconds. */
export interface CommandRecord {
  /** Its place in the order of admission; the cursor of lists. */
  readonly seq: number;
  readonly id: string;
  readonly from: string;
  readonly kid?: string;
  readonly command: string;
  readonly params: JsonObject;
  readonly issuedAt: number;
  readonly expiresAt: number;
  readonly admittedAt: number;
  readonly replyTo: string;
  readonly state: "queued" | "running" | "final";
  readonly status?: string;
  readonly finishedAt?: number;
  /** The final reply as it was sent, JSON text. */
  readonly reply?: string;
}

/** Counters of what was decided without admission. */
const refusals = [
  "envelope_invalid",
  "signature_required",
  "command_expired",
  "busy",
  "storage_unavailable",
  "id_conflict",
  "journal_damaged",
  "reply_to_refused",
  "wrong_recipient",
  "signature_unchecked",
];

export class Commands implements Component {
  readonly name = "commands";
  readonly #deps: CommandsDeps;
  readonly #journal: Journal;
  readonly #finisher: Finisher;
  readonly #queues: Queues;
  readonly #recovery: Recovery;
  readonly #unrecorded: Unrecorded;
  readonly #intake: Intake;
  readonly #counts = new Counts();
  /** Aborts the reading and the pruning. */
  readonly #closing = new AbortController();
  #started: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  readonly #consumers = new Set<Promise<void>>();

  constructor(options: CommandsOptions, deps: CommandsDeps) {
    const counts = this.#counts;
    this.#deps = deps;
    const run = { runId: options.runId, bootId: options.bootId };
    this.#journal = new Journal({ ...defaultJournalBounds, ...options.journal, ...run }, deps);
    const replies = new Replies(options, { ...deps, counts });
    const journal = this.#journal;
    this.#finisher = new Finisher(options, { ...deps, journal, counts });
    this.#queues = new Queues(options, { ...deps, finisher: this.#finisher, replies });
    const shared = { ...deps, journal, queues: this.#queues, counts };
    this.#recovery = new Recovery({ ...shared, finisher: this.#finisher });
    this.#unrecorded = new Unrecorded(options, { ...deps, replies, counts });
    const others = { replies, recovery: this.#recovery, unrecorded: this.#unrecorded };
    this.#intake = new Intake(options, { ...shared, ...others });
  }

  /** Recovery: resolves when every command of an earlier run has ended or is being ended. */
  start(signal: AbortSignal): Promise<void> {
    this.#started ??= this.#start(signal);
    return this.#started;
  }

  /** Takes commands from there until `signal` aborts, `stop` is called or `inbound` ends. */
  async consume(inbound: Inbound, signal: AbortSignal, router?: Router): Promise<void> {
    const both = AbortSignal.any([signal, this.#closing.signal]);
    const reading = this.#intake.consume(inbound, both, router);
    this.#consumers.add(reading);
    try {
      await reading;
    } finally {
      this.#consumers.delete(reading);
    }
  }

  /** Running commands have until `deadline`; the others end `interrupted` at the next start. */
  stop(deadline: AbortSignal): Promise<void> {
    this.#stopped ??= this.#stop(deadline);
    return this.#stopped;
  }

  stats(): CommandsStats {
    const counts = this.#counts.all();
    const rejected =
      refusals.reduce((sum, name) => sum + (counts[name] ?? 0), 0) + countUnreadable(counts);
    const { queued, running } = this.#queues;
    const finished = this.#finisher.finished;
    return { queued, running, recorded: this.#journal.count, finished, rejected, counts };
  }

  /** Newest first; `next` is the cursor for the following page, null at the end. */
  async list(page: {
    readonly cursor?: number;
    readonly limit: number;
  }): Promise<{ readonly items: readonly CommandRecord[]; readonly next: number | null }> {
    const { entries, next } = await this.#journal.list(page.cursor, page.limit);
    return { items: entries.map((entry) => this.#toRecord(entry)), next: next ?? null };
  }

  /** Every command with this id, newest first: the id is unique for one sender only. */
  async get(id: string): Promise<readonly CommandRecord[]> {
    const found: CommandRecord[] = [];
    for await (const entry of this.#journal.withId(id)) found.push(this.#toRecord(entry));
    return found.sort((a, b) => b.seq - a.seq);
  }

  async #start(signal: AbortSignal): Promise<void> {
    const both = AbortSignal.any([signal, this.#closing.signal]);
    await this.#recovery.end(await this.#journal.open());
    void this.#lookOver(both);
    void this.#pruneForever(both);
  }

  async #stop(deadline: AbortSignal): Promise<void> {
    this.#closing.abort();
    const readers = Promise.allSettled(this.#consumers);
    await Promise.race([readers, aborted(deadline)]); // A dead disk may hold up a batch.
    this.#unrecorded.stop();
    await this.#queues.stop(deadline);
  }

  async #lookOver(signal: AbortSignal): Promise<void> {
    try {
      await this.#recovery.lookOver(signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#deps.log.warn("journal not looked over", { error: describeError(error) });
    }
  }

  async #pruneForever(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#journal.prune();
      } catch (error) {
        this.#deps.log.warn("journal not pruned", { error: describeError(error) });
      }
      await this.#deps.clock.sleep(bounds.pruneEveryMs, signal);
    }
  }

  #toRecord(entry: JournalEntry): CommandRecord {
    const { command, seq, admittedAt, replyTo, final } = entry;
    const { id, from, kid, name, params, issuedAt, expiresAt } = command;
    const ticket = this.#queues.find(journalKey(command));
    const state = final ? "final" : ticket?.state === "running" ? "running" : "queued";
    return {
      ...{ seq, id, from, ...(kid !== undefined && { kid }), command: name, params },
      ...{ issuedAt, expiresAt, admittedAt, replyTo, state },
      ...(final && { status: final.status, finishedAt: final.at, reply: final.reply }),
    };
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

function countUnreadable(counts: Readonly<Record<string, number>>): number {
  const names = Object.keys(counts).filter((name) => name.startsWith("unreadable_"));
  return names.reduce((sum, name) => sum + (counts[name] ?? 0), 0);
}
