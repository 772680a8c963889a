/**
 * What an event may do to a loop: wake it. `notify` before `wait` is remembered once, so a loop
 * that looks for work, finds none and then waits never sleeps through an event.
 */
export class Wakeup {
  #pending = false;
  #waiting: (() => void) | undefined;

  notify(): void {
    if (this.#waiting) this.#waiting();
    else this.#pending = true;
  }

  /** Resolves at the next (or a remembered) notify, or when `signal` aborts. One waiter at most. */
  wait(signal: AbortSignal): Promise<void> {
    if (this.#pending || signal.aborted) {
      this.#pending = false;
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      const finish = (): void => {
        signal.removeEventListener("abort", finish);
        this.#waiting = undefined;
        resolve();
      };
      this.#waiting = finish;
      signal.addEventListener("abort", finish, { once: true });
    });
  }
}
