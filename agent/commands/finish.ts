/**
 * The end of a command: its journal entry and its final reply are one synced commit. A commit that
 * fails is tried again, with back-off, for as long as the agent runs: the result stays in memory,
 * the room for its reply stays held, and the command still counts against `max_queued`, so a dead
 * disk stops admissions instead of filling the memory. What is not on disk when the agent stops
 * ends `interrupted` at the next start.
 *
 * A reply whose topic the configuration refuses by now (another parent, a shorter `topic_max`) is
 * undeliverable: counted, logged, and its command ends without it, or it would hold up all others
 * of a start and be tried for ever. The journal has its bytes, for a repetition of the command.
 */
import { backoffMs } from "../core/backoff.ts";
import { describeError, type ErrorCode, isHoldfastError } from "../core/errors.ts";
import { encodedPublishSize } from "../core/publish-packet.ts";
import type { Reservation, Staged } from "../outbox/outbox.ts";
import type { Counts } from "./counts.ts";
import type { CommandResult } from "./dispatcher.ts";
import { encodeFinal, noRoom } from "./final-reply.ts";
import type { Journal, JournalEntry, JournalFinal } from "./journal.ts";
import { bounds, type CommandsDeps, REPLY_LANE } from "./options.ts";
import { mayReplyTo, type Policy, replyTopicOf } from "./policy.ts";
import type { Ticket } from "./ticket.ts";

export interface FinisherDeps
  extends Pick<CommandsDeps, "store" | "outbox" | "clock" | "random" | "log"> {
  readonly journal: Journal;
  readonly counts: Counts;
}

/** An end on its way to the disk; without `staged` its reply is undeliverable. */
interface Leaving {
  readonly ending: Ending;
  readonly staged: Staged | undefined;
}

/** What the outbox says of a message that it will not take however often it is asked. */
const neverTaken: readonly ErrorCode[] = [
  "topic_invalid",
  "topic_too_long",
  "lane_unknown",
  "message_invalid",
];

interface Ending {
  readonly entry: JournalEntry;
  readonly final: JournalFinal;
  readonly payload: Uint8Array;
}

export interface FinisherOptions extends Policy {
  readonly clientId: string;
}

export class Finisher {
  readonly #options: FinisherOptions;
  readonly #deps: FinisherDeps;
  #finished = 0;

  constructor(options: FinisherOptions, deps: FinisherDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Commands that ended since the process started. */
  get finished(): number {
    return this.#finished;
  }

  /** Resolves with true when the end is on disk, with false when `signal` aborted before. */
  async finish(ticket: Ticket, result: CommandResult, signal: AbortSignal): Promise<boolean> {
    const { outbox, clock, random } = this.#deps;
    let ending = this.#endingOf(ticket.entry, result);
    let reservation = ticket.reservation;
    if (reservation && this.#sizeOf(ending) > reservation.bytes) {
      const larger = outbox.reserve(REPLY_LANE, this.#sizeOf(ending));
      if (larger) {
        reservation.release();
        reservation = larger;
      } else ending = this.#endingOf(ticket.entry, noRoom(ending.payload.length, "lane"));
    }
    let leaving: Leaving | undefined;
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        leaving ??= this.#stage(ending, reservation);
        await this.#commit([leaving]);
        if (!leaving.staged) reservation?.release();
        return true;
      } catch (error) {
        this.#noteFailure(ending, error);
        if (isHoldfastError(error, "payload_too_large")) {
          ending = this.#endingOf(ticket.entry, noRoom(ending.payload.length, "message"));
        }
        await clock.sleep(backoffMs(attempt, bounds.finishRetry, random), signal);
      }
    }
    if (leaving?.staged) leaving.staged.abandoned();
    else reservation?.release();
    return false;
  }

  /**
   * Many commands with one commit, for the start, when no room is held for their replies. Throws
   * what the outbox or the store throws; then nothing has changed.
   */
  async finishAll(entries: readonly JournalEntry[], result: CommandResult): Promise<void> {
    const leaving: Leaving[] = [];
    try {
      for (const entry of entries) leaving.push(this.#stage(this.#endingOf(entry, result)));
      await this.#commit(leaving);
    } catch (error) {
      for (const { staged } of leaving) staged?.abandoned();
      throw error;
    }
  }

  #stage(ending: Ending, reservation?: Reservation): Leaving {
    const { replyTo: topic, command } = ending.entry;
    const allowed =
      topic === replyTopicOf(command.from, this.#options) || mayReplyTo(topic, this.#options);
    if (!allowed) return { ending, staged: undefined };
    const message = { topic, payload: ending.payload, lane: REPLY_LANE };
    try {
      return { ending, staged: this.#deps.outbox.stage(message, reservation) };
    } catch (error) {
      if (!isHoldfastError(error) || !neverTaken.includes(error.code)) throw error;
      return { ending, staged: undefined };
    }
  }

  async #commit(leaving: readonly Leaving[]): Promise<void> {
    const { store, journal, counts } = this.#deps;
    const writes = leaving.flatMap(({ ending: { entry, final }, staged }) => [
      ...journal.finish(entry, final),
      ...(staged?.writes ?? []),
    ]);
    await store.commit(writes, { sync: true });
    for (const { ending, staged } of leaving) {
      if (staged) staged.committed();
      else this.#noteUndeliverable(ending.entry);
      journal.finished(ending.final);
      counts.add(`ended_${ending.final.status}`);
      this.#finished++;
    }
  }

  #noteUndeliverable({ command, replyTo }: JournalEntry): void {
    this.#deps.counts.add("reply_undeliverable");
    this.#deps.log.warn("reply undeliverable", { id: command.id, topic: replyTo });
  }

  #sizeOf(ending: Ending): number {
    return encodedPublishSize(Buffer.byteLength(ending.entry.replyTo), ending.payload.length);
  }

  #noteFailure(ending: Ending, error: unknown): void {
    const code = isHoldfastError(error) ? error.code : "unexpected";
    const { id } = ending.entry.command;
    this.#deps.log.warn("command end not recorded", { id, code, error: describeError(error) });
    this.#deps.counts.add("finish_retried");
  }

  #endingOf(entry: JournalEntry, result: CommandResult): Ending {
    const at = this.#deps.clock.wallMs();
    const head = { id: entry.command.id, device: this.#options.clientId, at };
    const payload = encodeFinal(head, result);
    const reply = Buffer.from(payload).toString("utf8");
    const status = (JSON.parse(reply) as { status: string }).status;
    return { entry, payload, final: { status, at, reply } };
  }
}
