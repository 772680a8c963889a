import type { Clock } from "../../agent/core/clock.ts";

/**
 * So many requests of one caller in a window of time. Windows begin with a caller's first request;
 * those that are over are let go with the next, so that it holds the callers of one window.
 */
export class Rates {
  readonly #most: number;
  readonly #perMs: number;
  readonly #clock: Clock;
  readonly #windows = new Map<string, { readonly endMs: number; count: number }>();

  /** `most` 0 is any number. */
  constructor(options: { readonly most: number; readonly perMs: number }, clock: Clock) {
    this.#most = options.most;
    this.#perMs = options.perMs;
    this.#clock = clock;
  }

  /** False when this one is too many. */
  take(caller: string): boolean {
    if (this.#most === 0) return true;
    const nowMs = this.#clock.monotonicMs();
    // The oldest window comes first.
    for (const [name, { endMs }] of this.#windows) {
      if (endMs > nowMs) break;
      this.#windows.delete(name);
    }
    const window = this.#windows.get(caller) ?? { endMs: nowMs + this.#perMs, count: 0 };
    this.#windows.set(caller, window);
    if (window.count >= this.#most) return false;
    window.count++;
    return true;
  }
}
