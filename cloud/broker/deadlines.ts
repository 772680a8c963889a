import type { Clock } from "../../agent/core/clock.ts";

/** Something that will be called once, unless it is cancelled. */
export interface Deadline {
  readonly dueMs: number;
  /** Undefined once it was called or cancelled. */
  action: (() => void) | undefined;
}

/** Cancelled deadlines that may lie around before they are swept out. */
const SWEEP_AT = 1_000;

/**
 * Many deadlines on one sleeper. A connection has a few that are nearly always cancelled or moved,
 * so cancelling only lets go of the action; the empty rest is dropped when it comes up, or swept
 * out when such rests are more than half of all.
 *
 * A binary heap by due time; what fell due runs in order, and what throws is a broken assumption.
 */
export class Deadlines {
  readonly #clock: Clock;
  #heap: Deadline[] = [];
  #cancelled = 0;
  #sleep: AbortController | undefined;
  #signal: AbortSignal = AbortSignal.abort();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Deadlines fire until `signal` aborts. */
  start(signal: AbortSignal): void {
    this.#signal = signal;
    this.#arm();
  }

  after(ms: number, action: () => void): Deadline {
    const deadline = { dueMs: this.#clock.monotonicMs() + ms, action };
    this.#push(deadline);
    if (this.#heap[0] === deadline) this.#arm();
    return deadline;
  }

  cancel(deadline: Deadline | undefined): void {
    if (!deadline?.action) return;
    deadline.action = undefined;
    this.#cancelled++;
    if (this.#cancelled < SWEEP_AT || this.#cancelled * 2 < this.#heap.length) return;
    // A sorted list is a heap.
    this.#heap = this.#heap.filter((one) => one.action).sort((a, b) => a.dueMs - b.dueMs);
    this.#cancelled = 0;
  }

  #arm(): void {
    this.#sleep?.abort();
    this.#sleep = undefined;
    const next = this.#heap[0];
    if (!next || this.#signal.aborted) return;
    const sleep = new AbortController();
    this.#sleep = sleep;
    const stop = (): void => sleep.abort();
    this.#signal.addEventListener("abort", stop, { once: true });
    void this.#clock
      .sleep(Math.max(0, next.dueMs - this.#clock.monotonicMs()), sleep.signal)
      .then(() => {
        this.#signal.removeEventListener("abort", stop);
        if (!sleep.signal.aborted) this.#fire();
      });
  }

  #fire(): void {
    this.#sleep = undefined;
    const nowMs = this.#clock.monotonicMs();
    for (let next = this.#heap[0]; next && next.dueMs <= nowMs; next = this.#heap[0]) {
      this.#pop();
      const { action } = next;
      next.action = undefined;
      if (action) action();
      else this.#cancelled--;
    }
    this.#arm();
  }

  #push(deadline: Deadline): void {
    const heap = this.#heap;
    let at = heap.push(deadline) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((heap[parent] as Deadline).dueMs <= deadline.dueMs) break;
      heap[at] = heap[parent] as Deadline;
      at = parent;
    }
    heap[at] = deadline;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Deadline;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      const right = heap[child + 1];
      if (right && right.dueMs < (heap[child] as Deadline).dueMs) child++;
      if ((heap[child] as Deadline).dueMs >= last.dueMs) break;
      heap[at] = heap[child] as Deadline;
      at = child;
    }
    heap[at] = last;
  }
}
