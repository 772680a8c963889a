import type { Clock } from "../core/clock.ts";
import type { LogFields, Logger, LogLevel } from "../core/log.ts";

export interface RepeatOptions {
  /** Milliseconds between two lines about an unchanged state. */
  readonly intervalMs?: number;
}

interface Memory {
  readonly state: string;
  readonly loggedMs: number;
  readonly count: number;
}

/** A bound against event names made from data. */
const MAX_EVENTS = 256;

/**
 * For what repeats, such as a refused connection: a line when the state of an event changes, else
 * at most one an interval, with `repeated`, the number of times that had none since the last line.
 */
export class RepeatLog {
  readonly #intervalMs: number;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #memory = new Map<string, Memory>();

  constructor(
    { intervalMs = 60_000 }: RepeatOptions,
    { log, clock }: { readonly log: Logger; readonly clock: Clock },
  ) {
    this.#intervalMs = intervalMs;
    this.#log = log;
    this.#clock = clock;
  }

  /** `state` says what makes two occurrences the same; fields that vary stay out of it. */
  report(level: LogLevel, event: string, state: string, fields: LogFields = {}): void {
    const nowMs = this.#clock.monotonicMs();
    const before = this.#memory.get(event);
    if (before?.state === state && nowMs - before.loggedMs < this.#intervalMs) {
      this.#memory.set(event, { ...before, count: before.count + 1 });
      return;
    }
    this.#forgetOldest(event);
    this.#memory.set(event, { state, loggedMs: nowMs, count: 0 });
    const repeated = before && before.count > 0 ? before.count : undefined;
    this.#log[level](event, { ...fields, repeated });
  }

  /** The state is over: the next occurrence is logged at once. */
  clear(event: string): void {
    this.#memory.delete(event);
  }

  #forgetOldest(event: string): void {
    this.#memory.delete(event);
    const oldest = this.#memory.keys().next();
    if (this.#memory.size >= MAX_EVENTS && !oldest.done) this.#memory.delete(oldest.value);
  }
}
