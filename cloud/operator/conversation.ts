/**
 * One slot while it is held: sends commands from its client id and takes every answer that comes to
 * it, also those to earlier runs that waited in its session.
 *
 * - An answer is recorded before its PUBACK leaves, so a crash in between brings it again.
 * - A command is repeated with the same bytes only: after a lost connection, and when the device
 *   said `busy`. The device knows the id, so it runs once.
 * - What is no answer to a run of ours is acknowledged, counted and forgotten; a flood of it costs
 *   this process time and nothing else.
 * - When an answer cannot be recorded it is not acknowledged, and all who wait are told why.
 */
import type { Clock } from "../../agent/core/clock.ts";
import { describeError, HoldfastError, isHoldfastError } from "../../agent/core/errors.ts";
import type { Logger } from "../../agent/core/log.ts";
import type { IncomingMessage } from "../../agent/core/message.ts";
import { Wakeup } from "../../agent/core/wakeup.ts";
import { parseReply } from "../../agent/protocol/reply.ts";
import { makeP2pTopic } from "../../agent/protocol/topics.ts";
import { type IgnoredReason, judgeReply } from "./correlate.ts";
import type { Link } from "./link.ts";
import type { Run, SeenReply } from "./run.ts";
import type { RunStore } from "./run-store.ts";
import type { Slot } from "./slots.ts";

/** A service that does not let us publish closes the connection instead of saying so. */
const CUTS_BEFORE_GIVING_UP = 3;
/** Pause after a failed publish; the link paces its connection attempts by itself. */
const REPUBLISH_PAUSE_MS = 200;

export interface ConversationOptions {
  readonly slot: Slot;
  /** Parent topic of commands and replies. */
  readonly down: string;
}

export interface ConversationDeps {
  readonly link: Link;
  readonly runs: RunStore;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface ConverseOptions {
  /** False: only wait for what comes. */
  readonly publish: boolean;
  /** Told of each answer that is not final, and of each moment at which the run is on its way. */
  readonly onChange?: (run: Run) => void;
}

/** Who waits for a run in this process. */
interface Watch {
  run: Run;
  /** Monotonic; set when the device said that it is busy. */
  repeatAtMs: number | undefined;
  readonly wakeup: Wakeup;
  readonly onChange: (run: Run) => void;
}

type Ignored = IgnoredReason | "unknown_run" | "damaged_run" | "unreadable" | "other_topic";

export class Conversation {
  readonly #options: ConversationOptions;
  readonly #deps: ConversationDeps;
  readonly #watches = new Map<string, Watch>();
  readonly #ignored = new Map<Ignored, number>();
  #collected = 0;
  #failure: unknown;

  constructor(options: ConversationOptions, deps: ConversationDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Resolves when there is a connection; throws `credentials_refused`, or `unreachable` on abort. */
  async connected(signal: AbortSignal): Promise<void> {
    await online(this.#deps.link, signal);
    if (!signal.aborted) return;
    const { endpoint, lastError } = this.#deps.link.info();
    const reason = lastError?.message ?? "it did not answer in time.";
    throw new HoldfastError("unreachable", `${endpoint ?? "The service"}: ${reason}`);
  }

  /** Answers recorded to runs that nobody here waits for. */
  get collected(): number {
    return this.#collected;
  }

  get ignored(): ReadonlyMap<Ignored, number> {
    return this.#ignored;
  }

  /** Takes answers until `signal` aborts. Never rejects: what stops it is told to who waits. */
  async receive(signal: AbortSignal): Promise<void> {
    try {
      for await (const message of this.#deps.link.messages(signal)) {
        await this.#take(message);
        message.accept();
      }
    } catch (error) {
      this.#failure = error;
      this.#deps.log.error("answers cannot be recorded", { error: describeError(error) });
      for (const watch of this.#watches.values()) watch.wakeup.notify();
    }
  }

  /**
   * Sends the run, unless told to wait only, and resolves with it at its final reply or when
   * `signal` aborts. Throws `credentials_refused`, `rejected_by_service`, `store_not_writable`.
   */
  async converse(run: Run, options: ConverseOptions, signal: AbortSignal): Promise<Run> {
    const watch = this.#watch(run, options);
    let mustPublish = options.publish;
    try {
      // An answer to it may have been recorded before the watch stood.
      watch.run = (await this.#deps.runs.get(run.id)) ?? run;
      while (!watch.run.final && !signal.aborted) {
        if (this.#failure !== undefined) throw this.#failure;
        if (mustPublish) await this.#publish(watch, signal);
        mustPublish = await this.#nextAnswer(watch, signal);
      }
      return watch.run;
    } finally {
      this.#watches.delete(run.id);
    }
  }

  /** Sends the run and resolves once the service has it, or when `signal` aborts. */
  async deliver(run: Run, signal: AbortSignal): Promise<Run> {
    const watch = this.#watch(run, { publish: true });
    try {
      await this.#publish(watch, signal);
      return watch.run;
    } finally {
      this.#watches.delete(run.id);
    }
  }

  #watch(run: Run, options: ConverseOptions): Watch {
    const onChange = options.onChange ?? (() => undefined);
    const watch = { run, repeatAtMs: undefined, wakeup: new Wakeup(), onChange };
    this.#watches.set(run.id, watch);
    return watch;
  }

  /** Waits for news; true when a busy device has had its pause: the same bytes are due again. */
  async #nextAnswer(watch: Watch, signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#deps;
    if (watch.run.final) return false;
    const leftMs = (watch.repeatAtMs ?? Number.POSITIVE_INFINITY) - clock.monotonicMs();
    if (leftMs <= 0) {
      watch.repeatAtMs = undefined;
      return true;
    }
    const over = new AbortController();
    const either = AbortSignal.any([signal, over.signal]);
    await Promise.race([watch.wakeup.wait(either), clock.sleep(leftMs, either)]);
    over.abort();
    return false;
  }

  async #publish(watch: Watch, signal: AbortSignal): Promise<void> {
    const { link, clock, runs } = this.#deps;
    const { topic, payload, id } = watch.run;
    for (let cuts = 0; !signal.aborted && !watch.run.final; ) {
      await online(link, signal);
      if (signal.aborted) return;
      try {
        await link.publish({ topic, payload: Buffer.from(payload), qos: 1 }, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (!isHoldfastError(error) || !error.retryable) throw error;
        if (error.code !== "not_connected" && ++cuts >= CUTS_BEFORE_GIVING_UP) {
          throw error.code === "connection_lost" ? publishRefused(topic, error) : error;
        }
        await clock.sleep(REPUBLISH_PAUSE_MS, signal);
        continue;
      }
      const sentAt = clock.wallMs();
      const sent = await runs.update(id, (run) =>
        run.sentAt === undefined ? { run: { ...run, sentAt } } : {},
      );
      if (sent?.run) this.#changed(watch, sent.run);
      return;
    }
  }

  async #take(message: IncomingMessage): Promise<void> {
    const ownTopic = makeP2pTopic(this.#options.down, this.#options.slot.clientId);
    if (message.topic !== ownTopic) return this.#ignore("other_topic");
    const seen = readReply(message.payload, this.#deps.clock.wallMs());
    if (!seen) return this.#ignore("unreadable");
    await this.#record(seen);
  }

  async #record(seen: SeenReply): Promise<void> {
    const { runs, clock, log } = this.#deps;
    const { id } = seen.reply;
    const verdict = await unlessDamaged(() => runs.update(id, (run) => judgeReply(run, seen)));
    if (verdict === "damaged") return this.#ignore("damaged_run");
    if (!verdict) return this.#ignore("unknown_run");
    if (verdict.kind === "ignored") return this.#ignore(verdict.reason);
    if (verdict.kind === "contradiction") log.warn("contradicting final reply", { run: id });
    const watch = this.#watches.get(id);
    if (!watch) {
      this.#collected++;
      return;
    }
    if (verdict.kind === "busy") watch.repeatAtMs = clock.monotonicMs() + verdict.retryAfterMs;
    this.#changed(watch, verdict.run);
  }

  #changed(watch: Watch, run: Run): void {
    watch.run = run;
    watch.onChange(run);
    watch.wakeup.notify();
  }

  #ignore(reason: Ignored): void {
    this.#ignored.set(reason, (this.#ignored.get(reason) ?? 0) + 1);
  }
}

/** Resolves when there is a connection or `signal` aborts; throws when the service refuses us. */
async function online(link: Link, signal: AbortSignal): Promise<void> {
  const refused = new AbortController();
  const look = (): void => {
    if (link.state === "refused") refused.abort();
  };
  const unsubscribe = link.onChange(look);
  try {
    look();
    await link.connected(AbortSignal.any([signal, refused.signal]));
  } finally {
    unsubscribe();
  }
  if (!refused.signal.aborted) return;
  const { endpoint, lastError } = link.info();
  throw new HoldfastError(
    "credentials_refused",
    `${endpoint ?? "The service"} refuses this commander: ` +
      `${lastError?.message ?? "the credentials are wrong"}. Check [auth] and device.client_id.`,
  );
}

function readReply(payload: Uint8Array, at: number): SeenReply | undefined {
  try {
    const reply = parseReply(payload);
    return { at, text: Buffer.from(payload).toString("utf8"), reply };
  } catch (error) {
    if (isHoldfastError(error)) return undefined;
    throw error;
  }
}

/** One file that a disk spoilt must not keep the answers to all others from being recorded. */
async function unlessDamaged<T>(action: () => Promise<T>): Promise<T | "damaged"> {
  try {
    return await action();
  } catch (error) {
    const damaged =
      isHoldfastError(error, "store_damaged") || isHoldfastError(error, "store_newer_format");
    if (damaged) return "damaged";
    throw error;
  }
}

function publishRefused(topic: string, cause: HoldfastError): HoldfastError {
  return new HoldfastError(
    "rejected_by_service",
    `The service closed the connection ${CUTS_BEFORE_GIVING_UP} times when ${topic} was published ` +
      "to. Check that this account may publish there and that topics.down exists.",
    { cause },
  );
}
