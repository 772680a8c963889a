/**
 * How many calls of a verb may run at once. A call that was told to end and does not keeps its
 * slot until it really ends, so a handler that ignores its signal can never pile up; when such
 * calls hold every slot, `acquire` says so at once instead of letting others wait behind them.
 */
export class Slots {
  readonly #count: number;
  #taken = 0;
  #abandoned = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#count = count;
  }

  /** A slot, or why there is none. Whoever waits is bounded by the queue of the plugin. */
  async acquire(signal: AbortSignal): Promise<Slot | "aborted" | "stuck"> {
    while (!signal.aborted) {
      if (this.#abandoned >= this.#count) return "stuck";
      if (this.#taken < this.#count) {
        this.#taken++;
        return this.#slot();
      }
      await this.#changed(signal);
    }
    return "aborted";
  }

  #slot(): Slot {
    let state: "held" | "abandoned" | "released" = "held";
    return {
      abandon: () => {
        if (state !== "held") return;
        state = "abandoned";
        this.#abandoned++;
        this.#wake();
      },
      release: () => {
        if (state === "released") return;
        if (state === "abandoned") this.#abandoned--;
        state = "released";
        this.#taken--;
        this.#wake();
      },
    };
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const finish = (): void => {
        signal.removeEventListener("abort", finish);
        resolve();
      };
      this.#waiting.push(finish);
      signal.addEventListener("abort", finish, { once: true });
    });
  }
}

export interface Slot {
  /** The caller no longer waits for the work in this slot. */
  abandon(): void;
  /** The work has ended. */
  release(): void;
}
