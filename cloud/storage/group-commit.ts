import { HoldfastError } from "../../agent/core/errors.ts";
import type { Store, Write } from "../../agent/store/store.ts";

/** Called once: without an error when the write is on disk, or no longer needed. */
export type Done = (error?: Error) => void;

export interface CommitItem {
  /** In one batch; undefined once cancelled. */
  writes: readonly Write[] | undefined;
  readonly bytes: number;
  readonly done: Done | undefined;
  begun: boolean;
}

/** What a source has for one commit. */
export interface TakenWrites {
  readonly writes: readonly Write[];
  /** Whether somebody waits for it to be safe. */
  readonly sync: boolean;
  readonly done: Done;
}

/** Asked when a commit is formed: for who makes one record of all that came meanwhile. */
export interface CommitSource {
  /** Undefined when there is nothing. */
  take(): TakenWrites | undefined;
  /** Bytes on their way to the disk. */
  readonly pendingBytes: number;
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
  readonly #sources: CommitSource[] = [];
  #woken = false;

  constructor(store: Store) {
    this.#store = store;
  }

  get pendingBytes(): number {
    let bytes = this.#pendingBytes;
    for (const source of this.#sources) bytes += source.pendingBytes;
    return bytes;
  }

  join(source: CommitSource): void {
    this.#sources.push(source);
  }

  /** A source has something for the next commit. */
  wake(): void {
    this.#woken = true;
    this.#running ??= this.#run();
  }

  /** `bytes`: what it costs until it is on disk. Without `done` nobody waits for it. */
  add(writes: readonly Write[], bytes: number, done?: Done): CommitItem {
    const item: CommitItem = { writes, bytes, done, begun: false };
    this.#queued.push(item);
    this.#pendingBytes += bytes;
    this.#running ??= this.#run();
    return item;
  }

  /** True when the write had not begun; it never will, and `done` is called as if it had. */
  cancel(item: CommitItem): boolean {
    if (item.begun || !item.writes) return false;
    item.writes = undefined;
    return true;
  }

  /** Resolves when nothing is queued or under way. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  async #run(): Promise<void> {
    // What the same chunk of input brings joins the first group.
    await Promise.resolve();
    while (this.#queued.length > 0 || this.#woken) {
      const group = this.#queued;
      this.#queued = [];
      this.#woken = false;
      const taken = this.#sources.map((source) => source.take()).filter((one) => one !== undefined);
      const error = await this.#commit(group, taken);
      for (const item of group) {
        this.#pendingBytes -= item.bytes;
        item.done?.(error);
      }
      for (const { done } of taken) done(error);
    }
    this.#running = undefined;
  }

  async #commit(
    group: readonly CommitItem[],
    taken: readonly TakenWrites[],
  ): Promise<Error | undefined> {
    const writes: Write[] = [];
    let sync = false;
    for (const item of group) {
      item.begun = true;
      if (!item.writes) continue;
      writes.push(...item.writes);
      sync ||= item.done !== undefined;
    }
    for (const one of taken) {
      writes.push(...one.writes);
      sync ||= one.sync;
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
