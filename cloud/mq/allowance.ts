import type { Clock } from "../../agent/core/clock.ts";

const REFILL_MS = 1_000;

/**
 * How many messages nobody reads may be kept: `burst` at once, then `perSecond`. It asks for the
 * time only while it is not full, and not for each message.
 */
export class Allowance {
  readonly #burst: number;
  readonly #perSecond: number;
  readonly #clock: Clock;
  #left: number;
  #refilling = false;

  constructor(
    options: { readonly burst: number; readonly perSecond: number },
    deps: { readonly clock: Clock },
  ) {
    this.#burst = options.burst;
    this.#perSecond = options.perSecond;
    this.#clock = deps.clock;
    this.#left = options.burst;
  }

  get left(): number {
    return this.#left;
  }

  /** False when there is none left. Grows again until `signal` aborts. */
  take(signal: AbortSignal): boolean {
    if (!this.#refilling) void this.#refill(signal);
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }

  async #refill(signal: AbortSignal): Promise<void> {
    this.#refilling = true;
    do {
      await this.#clock.sleep(REFILL_MS, signal);
      this.#left = Math.min(this.#burst, this.#left + this.#perSecond);
    } while (this.#left < this.#burst && !signal.aborted);
    this.#refilling = false;
  }
}
