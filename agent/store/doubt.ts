import type { KeyValue } from "./level.ts";

interface Operation {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

/** After so many attempts in vain to read what was there, it stays in doubt. */
const READ_TRIES = 20;

/**
 * Takes back what a failed batch left. A batch whose sync failed may be in the log all the same,
 * and the next opening finds it there, although whoever asked for it was told that it was not
 * written and has tried again since: then every message of it would be sent twice.
 *
 * So what its keys held before is read before the failed database is closed, and written again after
 * the next opening where the batch turns out to be there. Only a crash in between, or a sector that
 * cannot be read, leaves it.
 */
export class Doubt {
  #failed: readonly Operation[] = [];
  #before: Operation[] | undefined;
  #triesLeft = READ_TRIES;

  /** Whether something is left to be looked at. */
  get any(): boolean {
    return this.#failed.length > 0;
  }

  /** This batch was refused; at most one is, before the database is opened anew. */
  add(operations: readonly Operation[]): void {
    if (!this.any) this.#failed = operations;
  }

  /**
   * Before the database that failed is closed: it never shows the batch that it refused. Rejects
   * when it cannot be read now.
   */
  async look(database: KeyValue): Promise<void> {
    if (this.#before) return;
    let before: Operation[] = [];
    try {
      for (const { key } of this.#failed) before.push({ key, value: await database.get(key) });
    } catch (error) {
      if (--this.#triesLeft > 0) throw error;
      before = []; // A part of a batch must not be taken back without the rest.
    }
    this.#before = before;
  }

  /** After opening: gives the keys that were put back. Rejects as a write does. */
  async settle(database: KeyValue): Promise<number> {
    const changed: Operation[] = [];
    for (const one of this.#before ?? []) {
      if (!isSame(await database.get(one.key), one.value)) changed.push(one);
    }
    if (changed.length > 0) await database.batch(changed, { sync: true });
    this.#failed = [];
    this.#before = undefined;
    this.#triesLeft = READ_TRIES;
    return changed.length;
  }
}

function isSame(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : Buffer.compare(a, b) === 0;
}
