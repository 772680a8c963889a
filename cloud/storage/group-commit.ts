import { HoldfastError } from "../../agent/core/errors.ts";
import type { Store, Write } from "../../agent/store/store.ts";

/** Called once: without an error when the write is on disk, or no longer needed. */
export type Done = (error?: Error) => void;

export interface CommitItem {
  write: Write | undefined;
  readonly bytes: number;
  readonly done: Done | undefined;
  begun: boolean;
}

/**
 * Collects writes while a commit is under way and makes the next commit of all of them: at any
 * rate of messages there is one sync at a time, and each carries what came during the last one.
 * A group in which nobody waits is written without a sync. Commits are in the order of `add`.
 */
export class GroupCommit {
  readonly #store: Store;
  #queued: CommitItem[] = [];
  #running: Promise<void> | undefined;
  #pendingBytes = 0;

  constructor(store: Store) {
    this.#store = store;
  }

  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** `bytes`: what it costs until it is on disk. Without `done` nobody waits for it. */
  add(write: Write, bytes: number, done?: Done): CommitItem {
    const item: CommitItem = { write, bytes, done, begun: false };
    this.#queued.push(item);
    this.#pendingBytes += bytes;
    this.#running ??= this.#run();
    return item;
  }

  /** True when the write had not begun; it never will, and `done` is called as if it had. */
  cancel(item: CommitItem): boolean {
    if (item.begun || !item.write) return false;
    item.write = undefined;
    return true;
  }

  /** Resolves when nothing is queued or under way. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  async #run(): Promise<void> {
    // What the same chunk of input brings joins the first group.
    await Promise.resolve();
    while (this.#queued.length > 0) {
      const group = this.#queued;
      this.#queued = [];
      const error = await this.#commit(group);
      for (const item of group) {
        this.#pendingBytes -= item.bytes;
        item.done?.(error);
      }
    }
    this.#running = undefined;
  }

  async #commit(group: readonly CommitItem[]): Promise<Error | undefined> {
    const writes: Write[] = [];
    let sync = false;
    for (const item of group) {
      item.begun = true;
      if (!item.write) continue;
      writes.push(item.write);
      sync ||= item.done !== undefined;
    }
    if (writes.length === 0) return undefined;
    try {
      await this.#store.commit(writes, { sync });
      return undefined;
    } catch (cause) {
      return new HoldfastError("store_not_writable", undefined, { cause });
    }
  }
}
