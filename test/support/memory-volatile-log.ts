import type { VolatileLog } from "../../agent/store/store.ts";

/** What `/run` is to a machine: it outlives a process, and a power cut clears it. */
export class MemoryVolatileLog {
  #current: Uint8Array[] = [];
  #old: Uint8Array[] = [];
  #holder: object | undefined;

  /** Bytes that are in it. */
  get length(): number {
    return [...this.#old, ...this.#current].reduce((sum, { length }) => sum + length, 0);
  }

  /** For one process; the one before is dead and writes no more. */
  open(): VolatileLog {
    const holder = {};
    this.#holder = holder;
    const alive = (): boolean => this.#holder === holder;
    let turning = false;
    return {
      read: () => Buffer.concat([...this.#old, ...this.#current]),
      append: (bytes) => {
        if (alive()) this.#current.push(bytes.slice());
      },
      begin: () => {
        if (!alive() || turning) return;
        [this.#current, this.#old] = [this.#old, this.#current];
        turning = true;
      },
      commit: () => {
        if (alive() && turning) this.#old = [];
        turning = false;
      },
    };
  }

  /** What a kill at this moment leaves to the next process, however long this one goes on. */
  copy(): MemoryVolatileLog {
    const copy = new MemoryVolatileLog();
    copy.#current = [...this.#current];
    copy.#old = [...this.#old];
    return copy;
  }

  clear(): void {
    this.#current = [];
    this.#old = [];
  }
}
