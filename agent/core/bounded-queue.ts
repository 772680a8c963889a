import { assert } from "./assert.ts";

/**
 * First in, first out, with a bound. `push` says no when full, and the caller decides what that
 * means; readers wait. After `close` the rest can still be read, then `shift` gives undefined.
 */
export class BoundedQueue<T> {
  readonly #capacity: number;
  #items: (T | undefined)[] = [];
  #head = 0;
  #closed = false;
  readonly #waiting = new Set<() => void>();

  constructor(capacity: number) {
    assert(capacity > 0, "a queue has room");
    this.#capacity = capacity;
  }

  get length(): number {
    return this.#items.length - this.#head;
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** False when full or closed; nothing changed then. */
  push(item: T): boolean {
    if (this.#closed || this.length >= this.#capacity) return false;
    this.#items.push(item);
    this.#wake();
    return true;
  }

  /** The next item if there is one now. */
  poll(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.#items[this.#head];
    this.#items[this.#head++] = undefined;
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** The next item; undefined when closed and empty, or aborted. */
  async shift(signal: AbortSignal): Promise<T | undefined> {
    for (;;) {
      if (signal.aborted) return undefined;
      if (this.length > 0) return this.poll();
      if (this.#closed) return undefined;
      await this.#changed(signal);
    }
  }

  close(): void {
    this.#closed = true;
    this.#wake();
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }

  #changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const finish = (): void => {
        signal.removeEventListener("abort", finish);
        this.#waiting.delete(finish);
        resolve();
      };
      this.#waiting.add(finish);
      signal.addEventListener("abort", finish, { once: true });
    });
  }
}
