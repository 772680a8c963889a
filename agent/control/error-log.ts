import type { Clock } from "../core/clock.ts";
import { describeError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";

const INTERVAL_MS = 60_000;

/** Unforeseen errors, at most one line a minute: what fails for one request fails for the next. */
export class ErrorLog {
  readonly #clock: Clock;
  readonly #log: Logger;
  #lastMs = Number.NEGATIVE_INFINITY;
  #unlogged = 0;

  constructor(deps: { readonly clock: Clock; readonly log: Logger }) {
    this.#clock = deps.clock;
    this.#log = deps.log;
  }

  add(event: string, error: unknown, request?: string): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#lastMs < INTERVAL_MS) {
      this.#unlogged++;
      return;
    }
    this.#log.error(event, { error: describeError(error), request, unlogged: this.#unlogged });
    this.#lastMs = nowMs;
    this.#unlogged = 0;
  }
}
