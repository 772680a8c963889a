import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { assert } from "../core/assert.ts";
import type { Component } from "../core/component.ts";
import { describeError, HoldfastError } from "../core/errors.ts";
import { isJsonObject } from "../core/json.ts";
import type { Logger } from "../core/log.ts";
import type { Random } from "../core/random.ts";
import type { KeyValue, KeyValueOpener } from "./level.ts";
import type { Codec, Store, Table, Write } from "./port.ts";
import { seal, unseal } from "./sealed.ts";

/** The newest layout that this release reads; a newer one is refused untouched. */
const FORMAT = 1;
/** One batch of LevelDB holds at most this; more waits for the next. */
const BATCH_BYTES = 4 * 1024 * 1024;
/** What opening the database may have to write: a manifest and the start of a log. */
const PROBE_BYTES = 256 * 1024;
const LAST_NUMBER_KEY = "meta/last_number";

export interface DatabaseStoreOptions {
  /** The state folder; made if it is not there. */
  readonly dir: string;
}

interface Waiting {
  readonly writes: readonly Write[];
  readonly sync: boolean;
  readonly resolve: () => void;
  readonly reject: (error: HoldfastError) => void;
}

interface Operation {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

/** The store of `store.ts` over a database that `openDatabase` opens. */
export class DatabaseStore implements Store, Component {
  readonly name = "store";
  readonly #dir: string;
  readonly #openDatabase: KeyValueOpener;
  readonly #log: Logger;
  readonly #random: Random;
  readonly #probe: (dir: string) => Promise<void>;
  #id = "";
  #database: KeyValue | undefined;
  #state: "new" | "open" | "failed" | "closed" = "new";
  #lastNumber = 0;
  #damaged = 0;
  #waiting: Waiting[] = [];
  #committing: Promise<void> | undefined;

  constructor(
    options: DatabaseStoreOptions,
    deps: {
      readonly openDatabase: KeyValueOpener;
      readonly random: Random;
      readonly log: Logger;
      /** Rejects while the disk does not take writes; the default writes and syncs a file. */
      readonly probe?: (dir: string) => Promise<void>;
    },
  ) {
    this.#dir = options.dir;
    this.#openDatabase = deps.openDatabase;
    this.#random = deps.random;
    this.#probe = deps.probe ?? ((dir) => probeDisk(dir, deps.random.bytes(PROBE_BYTES)));
    this.#log = deps.log.child("store");
  }

  /** Random, for the life of the state folder; empty before `start`. */
  get id(): string {
    return this.#id;
  }

  /** `failed`: the last write failed; the next one opens the database again first. */
  get state(): "new" | "open" | "failed" | "closed" {
    return this.#state;
  }

  /** Values found with a broken seal since the start. */
  get damaged(): number {
    return this.#damaged;
  }

  /** The number of the last committed numbered record; 0 before the first. */
  get lastNumber(): number {
    return this.#lastNumber;
  }

  async start(): Promise<void> {
    if (this.#state === "open") return;
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const mustExist = await this.#checkFormat();
    if (mustExist) await this.#refuseMissing();
    await this.#open(!mustExist);
    if (!mustExist) await this.#writeMarker();
    await writeFile(join(this.#dir, "holder.pid"), `${process.pid}\n`);
    this.#state = "open";
  }

  async stop(): Promise<void> {
    if (this.#state === "new" || this.#state === "closed") return;
    while (this.#committing !== undefined) await this.#committing;
    this.#state = "closed";
    await this.#database?.close();
    this.#database = undefined;
    await rm(join(this.#dir, "holder.pid"), { force: true });
  }

  table<V>(name: string, codec: Codec<V>): Table<V> {
    assert(/^[a-z_]{1,32}$/.test(name) && name !== "meta", "a table has a plain name");
    const prefix = `${name}/`;
    const decode = (key: string, value: Uint8Array): V => codec.decode(unseal(key, value));
    const store = this;
    return {
      name,
      get: async (key) => {
        const value = await store.#reading().get(prefix + key);
        return value === undefined ? undefined : decode(prefix + key, value);
      },
      range: async function* ({ gt, lte, limit, reverse = false }) {
        const bounds = { gt: prefix + (gt ?? ""), lte: prefix + (lte ?? "\x7f"), limit, reverse };
        for await (const [key, value] of readable(store.#reading().range(bounds))) {
          try {
            yield [key.slice(prefix.length), decode(key, value)] as const;
          } catch (error) {
            store.#reportDamage(key, error);
          }
        }
      },
      put: (key, value) => ({ table: name, key, value: codec.encode(value) }),
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

  commit(writes: readonly Write[], options: { readonly sync: boolean }): Promise<void> {
    if (this.#state === "new" || this.#state === "closed") {
      return Promise.reject(new HoldfastError("stopped", "The store is not open."));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ writes, sync: options.sync, resolve, reject });
      this.#committing ??= this.#commitAll();
    });
  }

  /** A record with this number was found, or is known to be gone: later ones get higher numbers. */
  noteNumber(recordNumber: number): void {
    this.#lastNumber = Math.max(this.#lastNumber, recordNumber);
  }

  /** Bytes of the database's files now; 0 when they cannot be looked at. */
  async size(): Promise<number> {
    const folder = join(this.#dir, "db");
    const names = await readdir(folder).catch(() => []);
    // A file may go while it is looked at: LevelDB compacts when it wants to.
    const sizes = names.map((name) =>
      stat(join(folder, name)).then(
        ({ size }) => size,
        () => 0,
      ),
    );
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  }

  /** Gives space of deleted records of a table back to the file system. */
  async compact(table: string): Promise<void> {
    await this.#reading().compact(`${table}/`, `${table}/\x7f`);
  }

  /** One batch after the other; whoever came meanwhile shares the next one. */
  async #commitAll(): Promise<void> {
    await Promise.resolve(); // Let every caller of this turn join the first batch.
    while (this.#waiting.length > 0) {
      if (this.#state === "failed" && !(await this.#reopened())) continue;
      const { group, operations, lastNumber } = this.#formBatch();
      try {
        assert(this.#database !== undefined, "an open store has a database");
        await this.#database.batch(operations, { sync: group.some(({ sync }) => sync) });
        this.#lastNumber = lastNumber;
        for (const { resolve } of group) resolve();
      } catch (cause) {
        this.#fail(group, cause);
      }
    }
    // In the same turn as the last look at the queue, or a commit in between would wait for ever.
    this.#committing = undefined;
  }

  /**
   * Before a batch is formed: what a failed one wrote may be there after all, and then its record
   * numbers are used. While the disk refuses, whoever waits now is told.
   */
  async #reopened(): Promise<boolean> {
    try {
      await this.#reopen();
      return true;
    } catch (cause) {
      this.#fail(this.#waiting.splice(0), cause);
      return false;
    }
  }

  #formBatch(): { group: Waiting[]; operations: Operation[]; lastNumber: number } {
    const group: Waiting[] = [];
    const operations: Operation[] = [];
    let bytes = 0;
    let lastNumber = this.#lastNumber;
    while (this.#waiting.length > 0 && (group.length === 0 || bytes < BATCH_BYTES)) {
      const waiting = this.#waiting.shift() as Waiting;
      group.push(waiting);
      for (const write of waiting.writes) {
        const { key, value } = "numbered" in write ? write.numbered(++lastNumber) : write;
        const fullKey = `${write.table}/${key}`;
        operations.push({ key: fullKey, value: value && seal(fullKey, value) });
        bytes += value?.length ?? 0;
      }
    }
    if (lastNumber !== this.#lastNumber) {
      const content = Buffer.from(String(lastNumber));
      operations.push({ key: LAST_NUMBER_KEY, value: seal(LAST_NUMBER_KEY, content) });
    }
    return { group, operations, lastNumber };
  }

  #fail(group: readonly Waiting[], cause: unknown): void {
    if (this.#state !== "failed") {
      this.#log.error("store not writable", { error: describeError(cause) });
    }
    this.#state = "failed";
    const message = "The disk does not take writes now.";
    const error = new HoldfastError("store_not_writable", message, { cause });
    for (const { reject } of group) reject(error);
  }

  /**
   * LevelDB refuses every write after one that failed, until it is opened anew; but opening needs a
   * disk that takes writes, and between closing and opening nothing can be read. So the disk is
   * tried first: while it refuses, what is stored can still be read and sent.
   */
  async #reopen(): Promise<void> {
    await this.#probe(this.#dir);
    await this.#database?.close().catch((error: unknown) => {
      this.#log.debug("close failed", { error: describeError(error) });
    });
    this.#database = undefined;
    await this.#open(false);
    this.#state = "open";
    this.#log.info("store writable again");
  }

  async #open(createIfMissing: boolean): Promise<void> {
    try {
      this.#database = await this.#openDatabase(join(this.#dir, "db"), { createIfMissing });
    } catch (cause) {
      throw await this.#openError(cause);
    }
    this.#lastNumber = Math.max(this.#lastNumber, await this.#readLastNumber(this.#database));
  }

  /** 0 where it is missing or damaged: who has numbered records says so by `noteNumber`. */
  async #readLastNumber(database: KeyValue): Promise<number> {
    const last = await database.get(LAST_NUMBER_KEY);
    if (last === undefined) return 0;
    try {
      return Number(Buffer.from(unseal(LAST_NUMBER_KEY, last)).toString());
    } catch (error) {
      this.#reportDamage(LAST_NUMBER_KEY, error);
      return 0;
    }
  }

  async #openError(cause: unknown): Promise<HoldfastError> {
    if (causeCode(cause) === "LEVEL_LOCKED") {
      const pid = (await readFile(join(this.#dir, "holder.pid"), "utf8").catch(() => "")).trim();
      const holder = pid === "" ? "another process" : `process ${pid}`;
      return new HoldfastError(
        "store_locked",
        `The state folder ${this.#dir} is held by ${holder}.`,
        {
          details: pid === "" ? { dir: this.#dir } : { dir: this.#dir, pid: Number(pid) },
          cause,
        },
      );
    }
    return new HoldfastError("store_unreadable", `The database in ${this.#dir} does not open.`, {
      details: { dir: this.#dir },
      cause,
    });
  }

  /** Undefined on a first start only: a marker that cannot be read now is no first start. */
  async #readMarker(): Promise<string | undefined> {
    const path = join(this.#dir, "store.json");
    try {
      return await readFile(path, "utf8");
    } catch (cause) {
      if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined;
      throw new HoldfastError("store_unreadable", `The file ${path} cannot be read.`, { cause });
    }
  }

  /** True when a database must exist already. */
  async #checkFormat(): Promise<boolean> {
    const text = await this.#readMarker();
    if (text === undefined) return false;
    const { format, id } = parseMarker(text);
    this.#id = id;
    if (format > FORMAT) {
      const message = `The state folder ${this.#dir} has format ${format}; this release reads up to ${FORMAT}.`;
      throw new HoldfastError("store_newer_format", message, { details: { format } });
    }
    return true;
  }

  async #refuseMissing(): Promise<void> {
    const current = join(this.#dir, "db", "CURRENT");
    if (await stat(current).catch(() => undefined)) return;
    const message = `The database in ${this.#dir} is gone, although this folder had one: ${current} is missing.`;
    throw new HoldfastError("store_missing", message, { details: { dir: this.#dir } });
  }

  async #writeMarker(): Promise<void> {
    this.#id = Buffer.from(this.#random.bytes(12)).toString("base64url");
    const marker = { format: FORMAT, id: this.#id };
    await writeDurably(this.#dir, "store.json", `${JSON.stringify(marker)}\n`);
  }

  #reading(): KeyValue {
    if (this.#database) return this.#database;
    throw new HoldfastError(
      this.#state === "failed" ? "store_unreadable" : "stopped",
      "The store is not open.",
    );
  }

  #reportDamage(key: string, error: unknown): void {
    this.#damaged++;
    this.#log.error("damaged record skipped", { key, error: describeError(error) });
  }
}

/** A torn marker still says that a database must exist. */
function parseMarker(text: string): { format: number; id: string } {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    parsed = undefined;
  }
  const { format, id } = isJsonObject(parsed) ? parsed : {};
  return { format: typeof format === "number" ? format : 0, id: typeof id === "string" ? id : "" };
}

function causeCode(error: unknown): unknown {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && "code" in cause ? cause.code : undefined;
}

async function probeDisk(dir: string, content: Uint8Array): Promise<void> {
  const path = join(dir, "probe.tmp");
  try {
    const file = await open(path, "w", 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
  } finally {
    await rm(path, { force: true });
  }
}

/** What goes wrong while reading, as an error of ours: the database may be closed to be reopened. */
async function* readable<T>(items: AsyncIterable<T>): AsyncIterable<T> {
  try {
    yield* items;
  } catch (cause) {
    const message = "The disk does not give back what was stored now.";
    throw new HoldfastError("store_unreadable", message, { cause });
  }
}

/** Writes a small file so that after a power cut it is there whole or not at all. */
async function writeDurably(dir: string, name: string, text: string): Promise<void> {
  const temporary = join(dir, `${name}.new`);
  const file = await open(temporary, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, join(dir, name));
  const folder = await open(dir, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
