/**
 * A simulated disk with a database on it that behaves as LevelDB does where it matters:
 *
 * - A batch is appended to the log whole; with `sync` the log up to it survives a power cut. A cut
 *   keeps what was synced and any prefix of the rest; a kill of the process keeps all of it.
 * - After one write or sync that failed, every further write fails until the database is opened
 *   anew, although the fault is over. Reading goes on meanwhile.
 * - A batch whose sync failed is in nobody's view, but it may be in the log: the next opening may
 *   find it there.
 * - Opening reads the log and syncs what it found.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import type { Clock } from "../../agent/core/clock.ts";
import type { KeyValueOpener } from "../../agent/store/store.ts";
import type { SeededRandom } from "../support/seeded-random.ts";

type KeyValue = Awaited<ReturnType<KeyValueOpener>>;
type Batch = Parameters<KeyValue["batch"]>[0];
type Content = Map<string, Uint8Array>;

interface Logged {
  readonly batch: Batch;
  /** False for one whose sync failed: the process does not see it. */
  readonly seen: boolean;
}

export class SimDisk {
  /** How long a sync takes, ms. */
  syncMs = 0;
  /** Until these moments (monotonic ms) the disk is full, cannot be read, cannot be opened. */
  fullUntilMs = 0;
  unreadableUntilMs = 0;
  unopenableUntilMs = 0;
  /** The last moment at which a fault was in force or a failure was not yet mended. */
  lastTroubleMs = Number.NEGATIVE_INFINITY;
  synced: Content = new Map();
  #log: Logged[] = [];
  #next: "write" | "sync" | undefined;
  #poisoned = false;
  #openings = 0;
  /** Its own: what never wakes would be held by one that all share. */
  readonly #never = new AbortController().signal;
  #holder: object | undefined;
  readonly #clock: Clock;
  readonly #random: SeededRandom;
  readonly #trace: (line: string) => void;

  constructor(clock: Clock, random: SeededRandom, trace: (line: string) => void) {
    this.#clock = clock;
    this.#random = random;
    this.#trace = trace;
  }

  /** The next write, or sync, fails; then all of them until the database is opened anew. */
  failOnce(what: "write" | "sync"): void {
    this.#next = what;
    this.#trouble();
  }

  heal(): void {
    this.#next = undefined;
    this.syncMs = 0;
    this.fullUntilMs = 0;
    this.unreadableUntilMs = 0;
    this.unopenableUntilMs = 0;
  }

  /** Whether a fault is in force or a failed database still has to be opened anew. */
  get troubled(): boolean {
    const now = this.#clock.monotonicMs();
    const until = Math.max(this.fullUntilMs, this.unreadableUntilMs, this.unopenableUntilMs);
    return this.#poisoned || this.#next !== undefined || now < until;
  }

  /** Whether a batch that failed to sync may still turn up. */
  get doubtful(): boolean {
    return this.#log.some(({ seen }) => !seen);
  }

  /** To be called now and then: remembers when there was trouble. */
  look(): void {
    if (this.troubled) this.#trouble();
  }

  /** The process is killed: the page cache stays, whoever held the database says nothing more. */
  kill(): void {
    this.#holder = undefined;
    this.#poisoned = false;
  }

  /** Power is cut: of what was not synced any number of the oldest batches stays. */
  powerCut(): void {
    this.kill();
    const kept = this.#random.int(this.#log.length + 1);
    this.#trace(`disk keeps ${kept} of ${this.#log.length} unsynced batches`);
    this.#log = this.#log.slice(0, kept);
    this.#replay();
  }

  /** A copy of what is on it, to be put back later. */
  snapshot(): Content {
    const content = new Map(this.synced);
    for (const { batch } of this.#log) apply(content, batch);
    return content;
  }

  /** What a person does who copies an old state folder back. */
  restore(content: Content): void {
    this.kill();
    this.#log = [];
    this.synced = new Map(content);
  }

  /** The disk takes a file of a few bytes: rejects while it is full. */
  probe(): Promise<void> {
    return this.#isFull() ? Promise.reject(failure("no space left on device")) : Promise.resolve();
  }

  open: KeyValueOpener = async (directory) => {
    // There is one database. What a repair makes of a copy of its files is not part of this.
    if (basename(directory) !== "db") throw failure("a copy is empty");
    // LevelDB's own files are not simulated. That it has some is looked at from outside, and that
    // each opening leaves others.
    mkdirSync(directory, { recursive: true });
    const manifest = String(++this.#openings).padStart(6, "0");
    writeFileSync(`${directory}/CURRENT`, `MANIFEST-${manifest}\n`);
    if (this.#now() < this.unopenableUntilMs || this.#isFull()) {
      this.#trouble();
      throw new Error("Database failed to open", { cause: failure("cannot open") });
    }
    // A batch whose sync failed is still in the page cache, or it is not any more.
    const ghost = this.#log.findIndex(({ seen }) => !seen);
    if (ghost >= 0 && this.#random.chance(0.5)) this.#log = this.#log.slice(0, ghost);
    else if (ghost >= 0) this.#trace("disk: a batch that failed to sync is there after all");
    this.#replay();
    this.#poisoned = false;
    const holder = {};
    this.#holder = holder;
    return this.#handle(holder);
  };

  #handle(holder: object): KeyValue {
    const live = new Map(this.synced);
    let closed = false;
    /** What a dead process asks for is never answered. */
    const alive = async (): Promise<void> => {
      if (closed) throw new Error("Database is not open");
      if (this.#holder !== holder) await new Promise(() => undefined);
    };
    const readable = (): void => {
      if (this.#now() < this.unreadableUntilMs) throw failure("read failed");
    };
    return {
      get: async (key) => {
        await alive();
        readable();
        return live.get(key);
      },
      range: async function* ({ gt, lte, limit, reverse }) {
        await alive();
        readable();
        const keys = [...live.keys()].filter((key) => key > gt && key <= lte).sort();
        if (reverse) keys.reverse();
        let given = 0;
        for (const key of keys) {
          const value = live.get(key);
          if (given++ >= limit) return;
          if (value) yield [key, value] as const;
        }
      },
      batch: async (batch, { sync }) => {
        await alive();
        await this.#append(batch.slice(), sync, holder);
        await alive();
        apply(live, batch);
      },
      compact: alive,
      close: async () => {
        await alive();
        closed = true;
        this.#holder = undefined;
      },
    };
  }

  async #append(batch: Batch, sync: boolean, holder: object): Promise<void> {
    if (this.#poisoned || this.#isFull() || this.#takeFault("write")) {
      this.#poisoned = true;
      this.#trouble();
      this.#trace("disk refuses a write");
      throw failure("write failed");
    }
    const fails = sync && this.#takeFault("sync");
    this.#log.push({ batch, seen: !fails });
    if (!sync) return;
    if (this.syncMs > 0) await this.#clock.sleep(this.syncMs, this.#never);
    if (this.#holder !== holder) return; // Killed meanwhile: what is in the log stays a while.
    if (fails) {
      this.#poisoned = true;
      this.#trouble();
      this.#trace("disk fails a sync");
      throw failure("sync failed");
    }
    this.#replay();
  }

  #replay(): void {
    for (const { batch } of this.#log) apply(this.synced, batch);
    this.#log = [];
  }

  #takeFault(what: "write" | "sync"): boolean {
    if (this.#next !== what) return false;
    this.#next = undefined;
    return true;
  }

  #isFull(): boolean {
    return this.#now() < this.fullUntilMs;
  }

  #now(): number {
    return this.#clock.monotonicMs();
  }

  #trouble(): void {
    this.lastTroubleMs = this.#now();
  }
}

function apply(content: Content, batch: Batch): void {
  for (const { key, value } of batch) {
    if (value === undefined) content.delete(key);
    else content.set(key, value);
  }
}

function failure(message: string): Error {
  return Object.assign(new Error(`IO error: ${message}`), { code: "LEVEL_IO_ERROR" });
}
