/**
 * Commands while the disk takes no writes. One that only reads, and says so, runs without a record
 * and is answered from memory, so that an operator can still ask a device what is wrong with it; all
 * others are told to come again (admission).
 *
 * What it promises: no effect, because there is none to promise (I4); the same bytes to whoever
 * repeats the command while they are remembered. It is not admitted, so I5 does not cover it: its
 * reply is sent while there is a connection, and after a restart, or when others took its place in
 * memory, a repetition runs again and may say something else.
 *
 * Bounds: how many run at once (above it: `busy`), how many answers are remembered and their bytes
 * (the oldest go), how long one may run. The rate of replies by sender is that of all replies
 * without a promise.
 */
import { type Clock, withDeadline } from "../core/clock.ts";
import { describeError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { Counts } from "./counts.ts";
import type { Command, CommandResult, Dispatcher } from "./dispatcher.ts";
import { encodeFinal, failed } from "./final-reply.ts";
import { bounds, type CommandsOptions } from "./options.ts";
import type { Addressee, Replies } from "./replies.ts";

export interface UnrecordedCommand {
  /** As in the journal. */
  readonly key: string;
  readonly command: Command;
  /** SHA-256 of the bytes as sent. */
  readonly digest: string;
  readonly to: Addressee;
  readonly progress: boolean;
}

export interface UnrecordedDeps {
  readonly dispatcher: Dispatcher;
  readonly replies: Replies;
  readonly counts: Counts;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Remembered extends UnrecordedCommand {
  /** Undefined while it runs. */
  reply: Uint8Array | undefined;
}

type Options = Pick<CommandsOptions, "clientId" | "deadlineMs" | "readsOnly">;

export class Unrecorded {
  readonly #options: Options;
  readonly #deps: UnrecordedDeps;
  /** The oldest first. */
  readonly #remembered = new Map<string, Remembered>();
  #bytes = 0;
  #running = 0;
  readonly #life = new AbortController();

  constructor(options: Options, deps: UnrecordedDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Whether a command of this name may run without a record at all. */
  covers(name: string): boolean {
    return this.#options.readsOnly?.(name) ?? false;
  }

  /** The command under this key, if it ran or runs without a record. */
  find(key: string): Pick<Remembered, "digest"> | undefined {
    return this.#remembered.get(key);
  }

  /**
   * Takes the command over; it runs when the returned function is called, once its message is
   * acknowledged. Undefined: it must not run without a record, or too many do already.
   */
  take(given: UnrecordedCommand): (() => void) | undefined {
    if (!this.covers(given.command.name) || this.#life.signal.aborted) return undefined;
    if (this.#running >= bounds.unrecordedRunning) return undefined;
    this.#running++;
    const remembered: Remembered = { ...given, reply: undefined };
    this.#remembered.set(given.key, remembered);
    return () => {
      this.#run(remembered).catch((error: unknown) => {
        this.#deps.log.error("command broke down", { error: describeError(error) });
      });
    };
  }

  /** The same bytes again, or word that it runs. */
  repeat(to: Addressee, key: string): void {
    const { counts, replies } = this.#deps;
    const known = this.#remembered.get(key);
    counts.add("repeated");
    if (known?.reply) replies.repeat(to, known.reply);
    else if (known?.progress) replies.send(to, { id: known.command.id, status: "running" });
  }

  /** What runs is told to end, and is not answered any more. */
  stop(): void {
    this.#life.abort();
  }

  async #run(remembered: Remembered): Promise<void> {
    const { counts, replies, clock } = this.#deps;
    const { command, to, progress, key } = remembered;
    counts.add("ran_unrecorded");
    if (progress) replies.send(to, { id: command.id, status: "running" });
    const result = await this.#execute(command);
    this.#running--;
    if (this.#life.signal.aborted) return;
    const head = { id: command.id, device: this.#options.clientId, at: clock.wallMs() };
    remembered.reply = encodeFinal(head, result);
    this.#bytes += remembered.reply.length;
    this.#remembered.delete(key); // Put back below, as the newest.
    this.#remembered.set(key, remembered);
    this.#forgetOldest();
    replies.repeat(to, remembered.reply);
  }

  /** Never rejects: a dispatcher that throws has failed. */
  async #execute(command: Command): Promise<CommandResult> {
    const { clock, dispatcher, log } = this.#deps;
    const configuredMs = this.#options.deadlineMs ?? bounds.defaultDeadlineMs;
    const deadlineMs = Math.min(configuredMs, bounds.unrecordedDeadlineMs);
    try {
      const outcome = await withDeadline(clock, deadlineMs, this.#life.signal, (signal) =>
        dispatcher.dispatch(command, signal),
      );
      if (!outcome.timedOut) return outcome.value;
      return failed("deadline_exceeded", `The command took longer than ${deadlineMs} ms.`);
    } catch (error) {
      if (!this.#life.signal.aborted) {
        log.error("dispatcher threw", { id: command.id, error: describeError(error) });
      }
      return failed(
        "handler_failed",
        error instanceof Error ? error.message : "The plugin failed.",
      );
    }
  }

  #forgetOldest(): void {
    for (const [key, { reply }] of this.#remembered) {
      const few = this.#remembered.size <= bounds.unrecordedReplies;
      if (few && this.#bytes <= bounds.unrecordedBytes) return;
      if (!reply) continue; // It runs.
      this.#remembered.delete(key);
      this.#bytes -= reply.length;
    }
  }
}
