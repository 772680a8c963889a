import type { Clock } from "./clock.ts";

/** Made once: without a reason of its own each abort would make an error with a stack. */
const OVER = "the wait is over";

/**
 * What an event may do to a loop: wake it. `notify` before `wait` is remembered once, so a loop
 * that looks for work, finds none and then waits never sleeps through an event.
 */
export class Wakeup {
  #pending = false;
  #waiting: (() => void) | undefined;
  /** Listened to from the first wait under it to the first under another: waits are many. */
  #signal: AbortSignal | undefined;
  readonly #aborted = (): void => this.#waiting?.();

  notify(): void {
    if (this.#waiting) this.#waiting();
    else this.#pending = true;
  }

  /** As `wait`, and at the latest after `ms`. */
  waitAtMost(ms: number, clock: Pick<Clock, "sleep">, signal: AbortSignal): Promise<void> {
    const endless = ms === Number.POSITIVE_INFINITY;
    if (this.#pending || signal.aborted || endless) return this.wait(signal);
    return this.#waitTimed(ms, clock, signal);
  }

  async #waitTimed(ms: number, clock: Pick<Clock, "sleep">, signal: AbortSignal): Promise<void> {
    const timer = new AbortController();
    void clock.sleep(ms, timer.signal).then(() => {
      if (!timer.signal.aborted) this.#waiting?.();
    });
    await this.wait(signal);
    timer.abort(OVER);
  }

  /** Resolves at the next (or a remembered) notify, or when `signal` aborts. One waiter at most. */
  wait(signal: AbortSignal): Promise<void> {
    if (this.#pending || signal.aborted) {
      this.#pending = false;
      return Promise.resolve();
    }
    if (signal !== this.#signal) {
      this.#signal?.removeEventListener("abort", this.#aborted);
      signal.addEventListener("abort", this.#aborted);
      this.#signal = signal;
    }
    return new Promise((resolve) => {
      this.#waiting = () => {
        this.#waiting = undefined;
        resolve();
      };
    });
  }
}
