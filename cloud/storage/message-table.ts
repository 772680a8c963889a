/**
 * Waiting messages on disk, in two tables under the same number, which is the order of arrival:
 *
 *     cloud_messages  the message, payload included (`messageCodec`)
 *     cloud_waiting   whom it waits for and since when (`waitingCodec`)
 *
 * A start and the pruning read the second, small one alone: a million messages of 64 KB are no
 * reason to read 64 GB. Both are written and deleted in one batch.
 *
 * Damaged, or made by a version that knew no second table: it is made anew from the first, which
 * has everything that is in it but the age; what is there counts as fresh then.
 */
import type { Store, Table, Write } from "../../agent/store/store.ts";
import { messageCodec, type StoredMessage, type WaitingEntry, waitingCodec } from "./codec.ts";
import { pages, ROWS } from "./pages.ts";

export class MessageTable {
  readonly #store: Store;
  readonly #messages: Table<StoredMessage>;
  readonly #waiting: Table<WaitingEntry>;

  constructor(store: Store) {
    this.#store = store;
    this.#messages = store.table("cloud_messages", messageCodec);
    this.#waiting = store.table("cloud_waiting", waitingCodec);
  }

  put(seq: number, message: StoredMessage, keptAtMs: number): readonly Write[] {
    const { clientId, direct } = message;
    return [
      this.#messages.put(keyOf(seq), message),
      this.#waiting.put(keyOf(seq), { clientId, direct, keptAtMs }),
    ];
  }

  del(seq: number): readonly Write[] {
    return [this.#messages.del(keyOf(seq)), this.#waiting.del(keyOf(seq))];
  }

  /** Throws `store_damaged`. */
  get(seq: number): Promise<StoredMessage | undefined> {
    return this.#messages.get(keyOf(seq));
  }

  /** From the one behind `after` on; `damaged` is called for each that cannot be read. */
  async *entries(
    after: number,
    damaged: () => void = () => undefined,
  ): AsyncIterable<readonly [number, WaitingEntry]> {
    for await (const [key, entry] of pages(this.#waiting, keyOf(after), damaged)) {
      yield [Number(key), entry];
    }
  }

  /** Makes the second table whole. What can be read in neither is deleted. */
  async rebuild(keptAtMs: number): Promise<{ readonly made: number; readonly lost: number }> {
    let made = 0;
    let lost = 0;
    let writes: Write[] = [];
    const unreadable = (key: string): void => {
      lost++;
      writes.push(this.#messages.del(key), this.#waiting.del(key));
    };
    for await (const [key, { clientId, direct }] of pages(this.#messages, "", unreadable)) {
      if ((await this.#entry(key)) === undefined) {
        made++;
        writes.push(this.#waiting.put(key, { clientId, direct, keptAtMs }));
      }
      if (writes.length < ROWS) continue;
      await this.#store.commit(writes, { sync: false });
      writes = [];
    }
    await this.#store.commit(writes, { sync: true });
    // What is damaged still has no message to it.
    const orphans: Write[] = [];
    for await (const _ of pages(this.#waiting, "", (key) => orphans.push(this.#waiting.del(key))));
    await this.#store.commit(orphans, { sync: true });
    return { made, lost };
  }

  async #entry(key: string): Promise<WaitingEntry | undefined> {
    try {
      return await this.#waiting.get(key);
    } catch {
      return undefined; // Damaged: it is written anew.
    }
  }
}

function keyOf(seq: number): string {
  return String(seq).padStart(15, "0");
}
