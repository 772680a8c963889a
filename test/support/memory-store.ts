/**
 * A Store in memory that behaves as a disk does: what was not synced is gone after a power cut, a
 * commit can be slow or fail, and waiting commits share one sync.
 */
import { HoldfastError } from "../../agent/core/errors.ts";
import type { Codec, Store, Table, Write } from "../../agent/store/store.ts";

interface PlainWrite {
  readonly table: string;
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

interface Waiting {
  readonly writes: readonly Write[];
  readonly sync: boolean;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class MemoryStore implements Store {
  /** Awaited before each group of commits: a slow disk, or one that a test holds back. */
  beforeSync: () => Promise<void> = () => Promise.resolve();
  /** Awaited by each get between the look at the disk and its answer. */
  afterRead: () => Promise<void> = () => Promise.resolve();
  /** Awaited by each range before its first look at the disk. */
  beforeRange: () => Promise<void> = () => Promise.resolve();
  /** How many values were given back, one by one or in a range. */
  reads = 0;
  /** How many groups with a synced commit in them were written. */
  syncs = 0;
  /** Set: content of this priority and of less important ones finds no room. */
  shortFrom = Number.POSITIVE_INFINITY;
  /** How many commits succeeded. */
  commits = 0;
  readonly #live: Map<string, Uint8Array>;
  readonly #synced: Map<string, Uint8Array>;
  #sinceSync: PlainWrite[] = [];
  #waiting: Waiting[] = [];
  #writing = false;
  #failures = 0;
  readonly #damaged = new Set<string>();
  #lastRecordNumber: number;

  constructor(content: ReadonlyMap<string, Uint8Array> = new Map(), lastRecordNumber = 0) {
    this.#live = new Map(content);
    this.#synced = new Map(content);
    this.#lastRecordNumber = lastRecordNumber;
  }

  table<V>(name: string, codec: Codec<V>): Table<V> {
    if (!/^[a-z_]{1,32}$/.test(name) || name === "meta") throw new Error(`bad table: ${name}`);
    const prefix = `${name}\0`;
    const live = this.#live;
    const damagedKeys = this.#damaged;
    const hooks = this;
    const counts: { reads: number } = this;
    return {
      name,
      get: async (key) => {
        const bytes = live.get(prefix + key);
        this.reads++;
        await this.afterRead();
        if (bytes && damagedKeys.has(prefix + key)) throw new HoldfastError("store_damaged");
        return bytes && codec.decode(bytes);
      },
      async *range({ gt = "", lte = "\u{10ffff}", limit, reverse = false, damaged }) {
        await hooks.beforeRange();
        const keys = [...live.keys()]
          .filter((full) => full.startsWith(prefix))
          .map((full) => full.slice(prefix.length))
          .filter((key) => key > gt && key <= lte)
          .sort();
        if (reverse) keys.reverse();
        for (const key of keys.slice(0, limit)) {
          counts.reads++;
          const bytes = live.get(prefix + key);
          const broken = damagedKeys.has(prefix + key);
          const value = bytes && !broken ? decodeOrSkip(codec, bytes) : undefined;
          if (value !== undefined) yield [key, value] as const;
          else if (bytes) damaged?.(key);
        }
      },
      put: (key, value) => ({ table: name, key, value: new Uint8Array(codec.encode(value)) }),
      del: (key) => ({ table: name, key, value: undefined }),
      putNumbered: (make) => ({
        table: name,
        numbered: (recordNumber) => {
          const { key, value } = make(recordNumber);
          return { key, value: codec.encode(value) };
        },
      }),
    };
  }

  commit(
    writes: readonly Write[],
    options: { readonly sync: boolean; readonly grows?: number },
  ): Promise<void> {
    if (options.grows !== undefined && options.grows >= this.shortFrom) {
      const details = { short: true };
      return Promise.reject(new HoldfastError("store_not_writable", "No room.", { details }));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ writes, sync: options.sync, resolve, reject });
      if (!this.#writing) void this.#write();
    });
  }

  noteNumber(recordNumber: number): void {
    this.#lastRecordNumber = Math.max(this.#lastRecordNumber, recordNumber);
  }

  /** The next `count` commits throw `store_not_writable` and write nothing. */
  failCommits(count: number): void {
    this.#failures = count;
  }

  /** Values of these keys fail their seal from now on. */
  damage(table: string, match: (key: string) => boolean): void {
    for (const key of this.#keysOf(table, match)) this.#damaged.add(key);
  }

  /** These keys are gone without anybody having deleted them. */
  lose(table: string, match: (key: string) => boolean): void {
    for (const key of this.#keysOf(table, match)) {
      this.#live.delete(key);
      this.#synced.delete(key);
    }
  }

  /** What a power cut at this moment leaves: only what was synced. */
  afterPowerCut(): MemoryStore {
    const store = new MemoryStore(this.#synced, this.#lastRecordNumber);
    for (const key of this.#damaged) store.#damaged.add(key);
    return store;
  }

  /** What a kill of the process at this moment leaves: everything written, synced or not. */
  afterKill({ lastRecordNumber = this.#lastRecordNumber } = {}): MemoryStore {
    return new MemoryStore(this.#live, lastRecordNumber);
  }

  /** Records of one table, synced or not. */
  countOf(table: string): number {
    return this.#keysOf(table, () => true).length;
  }

  #keysOf(table: string, match: (key: string) => boolean): string[] {
    const prefix = `${table}\0`;
    const keys = [...this.#live.keys()].filter((key) => key.startsWith(prefix));
    return keys.filter((key) => match(key.slice(prefix.length)));
  }

  async #write(): Promise<void> {
    this.#writing = true;
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      await this.beforeSync();
      const written = group.filter((one) => !this.#refuses(one));
      for (const one of written) this.#apply(one.writes);
      if (written.some((one) => one.sync)) this.#sync();
      this.commits += written.length;
      for (const one of written) one.resolve();
    }
    this.#writing = false;
  }

  #refuses(one: Waiting): boolean {
    if (this.#failures === 0) return false;
    this.#failures--;
    one.reject(new HoldfastError("store_not_writable"));
    return true;
  }

  #apply(writes: readonly Write[]): void {
    for (const write of writes) {
      const plain = "numbered" in write ? this.#number(write) : write;
      change(this.#live, plain);
      this.#damaged.delete(`${plain.table}\0${plain.key}`);
      this.#sinceSync.push(plain);
    }
  }

  /** Only what is written gets a number, so the numbers are dense. */
  #number(write: Extract<Write, { numbered: unknown }>): PlainWrite {
    return { table: write.table, ...write.numbered(++this.#lastRecordNumber) };
  }

  #sync(): void {
    this.syncs++;
    for (const write of this.#sinceSync) change(this.#synced, write);
    this.#sinceSync = [];
  }
}

function decodeOrSkip<V>(codec: Codec<V>, bytes: Uint8Array): V | undefined {
  try {
    return codec.decode(bytes);
  } catch {
    return undefined;
  }
}

function change(content: Map<string, Uint8Array>, write: PlainWrite): void {
  const key = `${write.table}\0${write.key}`;
  if (write.value) content.set(key, write.value);
  else content.delete(key);
}
