/**
 * Time under the hand of a test. Nothing moves until `advance` is called; then the sleepers wake
 * in the order of their deadlines, each at its own moment, and what they wake may run (and sleep
 * again) before the next one wakes.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "../../agent/core/clock.ts";

interface Sleeper {
  readonly dueMs: number;
  readonly order: number;
  readonly wake: () => void;
}

export interface FakeClockOptions {
  readonly wallMs?: number;
  readonly monotonicMs?: number;
  readonly trusted?: boolean;
  /** Resolves when everything that is due has run; the default knows only of microtasks. */
  readonly settle?: () => Promise<void>;
}

export class FakeClock implements Clock {
  #wallMs: number;
  #monotonicMs: number;
  #trusted: boolean;
  #order = 0;
  readonly #settle: () => Promise<void>;
  readonly #sleepers = new Set<Sleeper>();

  constructor(options: FakeClockOptions = {}) {
    this.#wallMs = options.wallMs ?? Date.UTC(2026, 0, 1);
    this.#monotonicMs = options.monotonicMs ?? 1_000;
    this.#trusted = options.trusted ?? true;
    this.#settle = options.settle ?? settle;
  }

  wallMs(): number {
    return this.#wallMs;
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  trusted(): boolean {
    return this.#trusted;
  }

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted || ms <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#sleepers.delete(sleeper);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      const sleeper = { dueMs: this.#monotonicMs + ms, order: this.#order++, wake };
      this.#sleepers.add(sleeper);
      signal.addEventListener("abort", wake, { once: true });
    });
  }

  /** How many sleeps are under way: a test waits for this before it advances. */
  get sleeping(): number {
    return this.#sleepers.size;
  }

  /** Milliseconds until the next sleeper is due; undefined when nobody sleeps. */
  get nextDueMs(): number | undefined {
    const next = this.#next(Number.POSITIVE_INFINITY);
    return next && next.dueMs - this.#monotonicMs;
  }

  /** Moves both clocks on by `ms`; resolves when all that fell due has run up to its next wait. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#monotonicMs + ms;
    await this.#settle();
    for (let next = this.#next(endMs); next; next = this.#next(endMs)) {
      this.#moveTo(next.dueMs);
      next.wake();
      await this.#settle();
    }
    this.#moveTo(endMs);
  }

  /** The wall clock jumps, as when a time server answers; monotonic time and sleepers stay. */
  jumpWall(ms: number): void {
    this.#wallMs += ms;
  }

  setTrusted(trusted: boolean): void {
    this.#trusted = trusted;
  }

  #moveTo(monotonicMs: number): void {
    this.#wallMs += monotonicMs - this.#monotonicMs;
    this.#monotonicMs = monotonicMs;
  }

  #next(latestMs: number): Sleeper | undefined {
    let next: Sleeper | undefined;
    for (const sleeper of this.#sleepers) {
      if (sleeper.dueMs > latestMs) continue;
      const sooner =
        !next ||
        sleeper.dueMs < next.dueMs ||
        (sleeper.dueMs === next.dueMs && sleeper.order < next.order);
      if (sooner) next = sleeper;
    }
    return next;
  }
}

/** One turn of the event loop runs every microtask that is due; a second one what those started. */
async function settle(): Promise<void> {
  await nextTurn();
  await nextTurn();
}
