import type { Clock } from "./clock.ts";

/** A timer longer than this fires at once in Node, so longer sleeps are cut in pieces. */
const LONGEST_TIMER_MS = 60_000;

/** The machine's own clock. `trusted` is asked each time: trust can come late on a board. */
export class SystemClock implements Clock {
  readonly #trusted: () => boolean;

  constructor(trusted: () => boolean = () => true) {
    this.#trusted = trusted;
  }

  wallMs(): number {
    return Date.now();
  }

  monotonicMs(): number {
    return Number(process.hrtime.bigint() / 1000n) / 1000;
  }

  trusted(): boolean {
    return this.#trusted();
  }

  async sleep(ms: number, signal: AbortSignal): Promise<void> {
    const end = this.monotonicMs() + ms;
    for (;;) {
      const left = end - this.monotonicMs();
      if (left <= 0 || signal.aborted) return;
      await pause(Math.min(left, LONGEST_TIMER_MS), signal);
    }
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal.addEventListener("abort", finish, { once: true });
  });
}
