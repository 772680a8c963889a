import { mkdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { assert } from "../core/assert.ts";
import type { Component } from "../core/component.ts";
import { describeError, HoldfastError, isHoldfastError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { Random } from "../core/random.ts";
import { AnchorKeeper } from "./anchor-keeper.ts";
import { formBatch, lastNumberNow, type Waiting } from "./batch.ts";
import { LAST_NUMBER_KEY, type MissingCounter } from "./damage.ts";
import { Doubt } from "./doubt.ts";
import { dataFiles, inventory, removeStrays } from "./folders.ts";
import { Formats } from "./formats.ts";
import { type KeyValue, type KeyValueOpener, repairLevel } from "./level.ts";
import { type Marker, readMarker, writeMarker } from "./marker.ts";
import { holdsData, Opening, type Salvage } from "./opening.ts";
import type { Codec, CommitOptions, Store, Table, Write } from "./port.ts";
import { probeDisk } from "./probe.ts";
import { RoomKeeper } from "./room-keeper.ts";
import type { FreeSpace, Room, SpaceOptions } from "./space.ts";
import { systemCode } from "./state-files.ts";
import {
  asNotWritable,
  asOpening,
  isLasting,
  newerFormat,
  noRoom,
  notWritable,
} from "./store-errors.ts";
import { makeTable } from "./table.ts";

/** A fault that strikes once must not make a start a degraded one. */
const OPEN_ATTEMPTS = 3;

export interface DatabaseStoreOptions {
  /** The state folder; made if it is not there. */
  readonly dir: string;
  /** Without it nothing is watched. */
  readonly space?: SpaceOptions;
  /** Of the file that is deleted when the disk is full; default 0, none. */
  readonly ballastBytes?: number;
  /** Start without a database where the disk does not take writes; default: `start` throws. */
  readonly degraded?: boolean;
}

export interface DatabaseStoreDeps {
  readonly openDatabase: KeyValueOpener;
  readonly random: Random;
  readonly log: Logger;
  /** Rejects while the disk does not take writes; the default writes and syncs a file. */
  readonly probe?: (dir: string) => Promise<void>;
  /** For tests with another database: what is to be done with its files. */
  readonly repair?: (folder: string) => Promise<void>;
  readonly prepare?: (folder: string) => Promise<void>;
  /** Finds holes in the numbered records of a database; the default finds none. */
  readonly countMissing?: MissingCounter;
  /** Quota or floor are near; called after a look that found so. */
  readonly onCrowded?: () => void;
  readonly freeSpace?: (dir: string) => Promise<FreeSpace>;
  /** For tests: another release's. */
  readonly formats?: Formats;
}

/**
 * open: reads and writes. failed: the last write failed; the next one opens the database again
 * first. absent, read-only: there was no opening it at the start; nothing can be read, and only a
 * new start helps once the disk takes writes.
 */
export type StoreState = "new" | "open" | "failed" | "absent" | "read-only" | "closed";

/** The store of `store.ts` over a database that `openDatabase` opens. */
export class DatabaseStore implements Store, Component {
  readonly name = "store";
  readonly #dir: string;
  readonly #options: DatabaseStoreOptions;
  readonly #openDatabase: KeyValueOpener;
  readonly #log: Logger;
  readonly #random: Random;
  readonly #probe: () => Promise<void>;
  readonly #formats: Formats;
  readonly #opening: Opening;
  readonly #anchor: AnchorKeeper;
  readonly #room: RoomKeeper;
  #marker: Marker | undefined;
  #database: KeyValue | undefined;
  #state: StoreState = "new";
  #fault: string | undefined;
  #lastNumber = 0;
  #lastNumberProven = false;
  /** Of the newest record that was given to the database, whether it took it or not. */
  #lastNumberedKey = { key: "", lastNumber: 0 };
  #damaged = 0;
  readonly #doubt = new Doubt();
  #salvage: Salvage | undefined;
  #bytesWritten = 0;
  #waiting: Waiting[] = [];
  #committing: Promise<void> | undefined;

  constructor(options: DatabaseStoreOptions, deps: DatabaseStoreDeps) {
    const { dir, space, ballastBytes = 0 } = options;
    this.#dir = dir;
    this.#options = options;
    this.#openDatabase = deps.openDatabase;
    this.#random = deps.random;
    const probe = deps.probe ?? ((at) => probeDisk(at, deps.random));
    this.#probe = () => probe(dir);
    this.#log = deps.log.child("store");
    this.#formats = deps.formats ?? new Formats();
    this.#opening = new Opening(dir, {
      openDatabase: deps.openDatabase,
      formats: this.#formats,
      repair: deps.repair ?? repairLevel,
      countMissing: deps.countMissing ?? (async () => 0),
      prepare: deps.prepare ?? removeStrays,
      probe: this.#probe,
      log: this.#log,
    });
    this.#anchor = new AnchorKeeper(join(dir, "anchor"), this.#log);
    this.#room = new RoomKeeper(
      { dir, space, ballastBytes },
      {
        ...{ random: deps.random, log: this.#log, freeSpace: deps.freeSpace },
        onCrowded: deps.onCrowded ?? (() => undefined),
        isWatched: () => this.#state === "open" || this.#state === "failed",
      },
    );
  }

  /** Random, for the life of the database; empty before `start`. */
  get id(): string {
    return this.#marker?.id ?? "";
  }

  get state(): StoreState {
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

  /** The system's code for why the disk does not take writes, as far as it is known. */
  get fault(): string | undefined {
    return this.#state === "open" ? undefined : this.#fault;
  }

  /** A stop that was clean told it, and no other process wrote since; or the database is new. */
  get lastNumberProven(): boolean {
    return this.#lastNumberProven;
  }

  /** How often a damaged database was dealt with in this folder. */
  get salvages(): number {
    return this.#marker?.salvages ?? 0;
  }

  /** What this start found; undefined: nothing was wrong. */
  get salvage(): Salvage | undefined {
    return this.#salvage;
  }

  /** By the last look; undefined before the first. */
  get room(): Room | undefined {
    return this.#room.room;
  }

  /** Bytes of keys and values given to the database since the start. */
  get bytesWritten(): number {
    return this.#bytesWritten;
  }

  /** Throws `store_locked` and `store_newer_format`; what else it throws says `degraded`. */
  async start(): Promise<void> {
    if (this.#state !== "new" && this.#state !== "closed") return;
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#startOpen();
        return;
      } catch (error) {
        await this.#database?.close().catch(() => undefined);
        this.#database = undefined;
        if (!isHoldfastError(error) || isLasting(error)) throw error;
        if (systemCode(error) === "ENOSPC") await this.#room.give(() => this.removeAside());
        if (attempt < OPEN_ATTEMPTS) continue;
        if (this.#options.degraded !== true) throw error;
        this.#fault = systemCode(error);
        this.#state = this.#fault === "EROFS" ? "read-only" : "absent";
        this.#log.error("store not available", { error: describeError(error) });
        return;
      }
    }
  }

  async stop(): Promise<void> {
    if (this.#state === "new" || this.#state === "closed") return;
    while (this.#committing !== undefined) await this.#committing;
    await this.#room.idle();
    if (this.#state === "failed" && this.#doubt.any) await this.#reopened();
    const wasOpen = this.#state === "open";
    if (wasOpen) await this.#writeLastNumber();
    this.#state = "closed";
    const database = this.#database;
    this.#database = undefined;
    await database?.close();
    if (database && wasOpen) {
      await this.#anchor.keep(this.id, await inventory(join(this.#dir, "db")));
    }
    await this.#anchor.idle();
    await rm(join(this.#dir, "holder.pid"), { force: true }).catch(() => undefined);
  }

  /** For a store that is absent or read-only: whether a new start would do better. */
  async recoverable(): Promise<boolean> {
    if (this.#state !== "absent" && this.#state !== "read-only") return false;
    return this.#probe().then(
      () => true,
      () => false,
    );
  }

  table<V>(name: string, codec: Codec<V>): Table<V> {
    return makeTable(name, codec, {
      formats: this.#formats,
      database: () => this.#reading(),
      onDamage: (key, error) => this.#reportDamage(key, error),
    });
  }

  commit(writes: readonly Write[], options: CommitOptions): Promise<void> {
    if (this.#state === "new" || this.#state === "closed") {
      return Promise.reject(new HoldfastError("stopped", "The store is not open."));
    }
    if (this.#state === "absent" || this.#state === "read-only") {
      return Promise.reject(notWritable());
    }
    if (options.grows !== undefined && options.grows >= this.shortFrom) {
      return Promise.reject(noRoom());
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ writes, sync: options.sync, resolve, reject });
      this.#committing ??= this.#commitAll();
    });
  }

  /** From which priority on new content is refused: quota or floor of free space are reached. */
  get shortFrom(): number {
    return this.#room.shortFrom;
  }

  /** A record with this number was found, or is known to be gone: later ones get higher numbers. */
  noteNumber(recordNumber: number): void {
    this.#lastNumber = Math.max(this.#lastNumber, recordNumber);
  }

  /** Bytes of the database's files now; 0 when they cannot be looked at. */
  async size(): Promise<number> {
    const folder = join(this.#dir, "db");
    // A file may go while it is looked at: LevelDB compacts when it wants to.
    const sizes = (await dataFiles(folder)).map((name) =>
      stat(join(folder, name)).then(
        ({ size }) => size,
        () => 0,
      ),
    );
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  }

  /**
   * Gives space of deleted records back to the file system; those of a table, or from key to key
   * (both included). LevelDB drops nothing from a table file in the last level, where one that was
   * written whole and deleted since ends up: so the log is made a table first, and one more that
   * spans the range makes it merge everything below. What lives in the range is written again.
   */
  async compact(table: string, from = "", to = "\x7f"): Promise<void> {
    await this.#reading().compact("\x00", "\x00");
    // Deletions of no record: at the end of a range a record may live.
    const ends = [from, `${to}\x00`].map((key) => ({ table, key, value: undefined }));
    await this.commit(ends, { sync: false });
    await this.#reading().compact(`${table}/${from}`, `${table}/${to}`);
  }

  /** Measures what is used and free. Undefined: there is nothing to watch, or no answer. */
  look(): Promise<Room | undefined> {
    return this.#room.look();
  }

  /** Syncs the anchor, and makes the ballast again when there is room for it. Never throws. */
  async secure(): Promise<void> {
    if (this.#state !== "open") return;
    await this.#anchor.keep(this.id);
    await this.#room.secure();
  }

  /** The name of the folder with the last damaged database; null: there is none. */
  async aside(): Promise<string | null> {
    return (await this.#opening.aside()) ?? null;
  }

  /** Deletes the damaged store that is set aside; false: there is none. */
  async removeAside(): Promise<boolean> {
    const name = await this.#opening.removeAside().catch(() => undefined);
    if (name !== undefined) this.#log.warn("set-aside store deleted for its room", { name });
    return name !== undefined;
  }

  async #startOpen(): Promise<void> {
    await asNotWritable(mkdir(this.#dir, { recursive: true, mode: 0o700 }));
    const marker = await readMarker(this.#dir);
    if (marker && marker.format > this.#formats.newest) throw newerFormat(this.#dir, marker.format);
    this.#marker = marker;
    if (marker || (await holdsData(this.#dir))) await this.#openExisting();
    else {
      const before = await dataFiles(join(this.#dir, "db"));
      this.#database = await asOpening(this.#dir, this.#opening.create());
      this.#lastNumberProven = before.length === 0;
    }
    this.#lastNumber = Math.max(this.#lastNumber, await this.#readLastNumber(this.#reading()));
    await this.#settleMarker();
    await this.#settleAnchor();
    await writeFile(join(this.#dir, "holder.pid"), `${process.pid}\n`).catch(() => undefined);
    this.#state = "open";
    if (this.#options.ballastBytes !== undefined || this.#options.space) await this.look();
    await this.secure();
  }

  async #openExisting(): Promise<void> {
    const anchor = await this.#anchor.read(this.id);
    const { database, salvage, untouched } = await asOpening(
      this.#dir,
      this.#opening.open({
        anchored: anchor?.number ?? 0,
        inventory: anchor?.inventory,
        knownBroken: this.#marker?.knownBroken ?? 0,
      }),
    );
    this.#database = database;
    this.#salvage = salvage;
    this.#lastNumberProven = untouched === true;
    if (!salvage) return;
    const { outcome, cause, aside, findings } = salvage;
    this.#log.error("store salvaged", { outcome, cause, aside });
    const { id, format, salvages } = this.#marker ?? { id: "", format: 0, salvages: 0 };
    this.#marker = {
      format,
      // Another database has other record numbers: what is noted of the old ones must not fit.
      id: outcome === "replaced" ? "" : id,
      salvages: salvages + 1,
      knownBroken: findings.brokenSum,
    };
    await asNotWritable(writeMarker(this.#dir, this.#marker));
  }

  /** Before the first value of a format is written, the folder says so. */
  async #settleMarker(): Promise<void> {
    const before = this.#marker;
    const format = Math.max(before?.format ?? 0, this.#formats.written);
    if (before && before.format === format && before.id !== "") return;
    const newId = Buffer.from(this.#random.bytes(12)).toString("base64url");
    const { id = "", salvages = 0, knownBroken = 0 } = before ?? {};
    this.#marker = { format, id: id === "" ? newId : id, salvages, knownBroken };
    await asNotWritable(writeMarker(this.#dir, this.#marker));
  }

  /** After a lost tail the numbers go on behind it, so that its hole stays one. */
  async #settleAnchor(): Promise<void> {
    const anchored = (await this.#anchor.read(this.id))?.number ?? 0;
    if (anchored > this.#lastNumber) {
      this.#lastNumber = anchored;
      const operations = [lastNumberNow(anchored, this.#formats)];
      await asNotWritable(this.#reading().batch(operations, { sync: true }));
    }
    this.#anchor.note(this.#lastNumber);
    await this.#anchor.keep(this.id);
  }

  /** One batch after the other; whoever came meanwhile shares the next one. */
  async #commitAll(): Promise<void> {
    await Promise.resolve(); // Let every caller of this turn join the first batch.
    while (this.#waiting.length > 0) {
      if (this.#state === "failed" && !(await this.#reopened())) continue;
      const batch = formBatch(this.#waiting, {
        lastNumber: this.#lastNumber,
        formats: this.#formats,
      });
      const { group, operations, lastNumber, lastNumberedKey, bytes } = batch;
      if (lastNumberedKey !== undefined) {
        this.#lastNumberedKey = { key: lastNumberedKey, lastNumber };
      }
      const sync = group.some((one) => one.sync);
      try {
        assert(this.#database !== undefined, "an open store has a database");
        await this.#database.batch(operations, { sync });
      } catch (cause) {
        if (systemCode(cause) === "ENOSPC") this.#room.full();
        this.#doubt.add(operations);
        this.#fail(group, cause);
        continue;
      }
      this.#lastNumber = lastNumber;
      this.#bytesWritten += bytes;
      for (const { resolve } of group) resolve();
      if (sync) this.#anchor.note(lastNumber);
      if (this.#anchor.late) await this.#anchor.keep(this.id);
      this.#room.wrote(bytes);
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

  /** For the next start; what it cannot find here it finds in the records. */
  async #writeLastNumber(): Promise<void> {
    if (this.#lastNumber === 0) return;
    const operations = [lastNumberNow(this.#lastNumber, this.#formats)];
    await this.#database?.batch(operations, { sync: false }).catch((error: unknown) => {
      this.#log.debug("last number not written", { error: describeError(error) });
    });
  }

  #fail(group: readonly Waiting[], cause: unknown): void {
    if (this.#state !== "failed") {
      this.#log.error("store not writable", { error: describeError(cause) });
    }
    this.#state = "failed";
    this.#fault = systemCode(cause);
    const error = notWritable(cause);
    for (const { reject } of group) reject(error);
  }

  /**
   * LevelDB refuses every write after one that failed, until it is opened anew; but opening needs a
   * disk that takes writes, and between closing and opening nothing can be read. So the disk is
   * tried first: while it refuses, what is stored can still be read and sent. A full disk gets the
   * room of the ballast and of a store that is set aside; then only what makes room is taken.
   */
  async #reopen(): Promise<void> {
    await this.#probe().catch(async (error: unknown) => {
      if (systemCode(error) !== "ENOSPC") throw error;
      await this.#room.give(() => this.removeAside());
      await this.#probe();
    });
    if (this.#database) await this.#doubt.look(this.#database);
    await this.#database?.close().catch((error: unknown) => {
      this.#log.debug("close failed", { error: describeError(error) });
    });
    this.#database = undefined;
    const open = this.#openDatabase(join(this.#dir, "db"), { createIfMissing: false });
    this.#database = await asOpening(this.#dir, open);
    await this.#doubt.settle(this.#database);
    await this.#noteDoubtful(this.#database);
    this.#state = "open";
    this.#log.info("store writable again");
    void this.look();
  }

  /** The batch that failed may be there after all: then its numbers are used. */
  async #noteDoubtful(database: KeyValue): Promise<void> {
    const { key, lastNumber } = this.#lastNumberedKey;
    if (lastNumber <= this.#lastNumber) return;
    if ((await database.get(key)) !== undefined) this.#lastNumber = lastNumber;
  }

  /** 0 where it is missing or damaged: who has numbered records says so by `noteNumber`. */
  async #readLastNumber(database: KeyValue): Promise<number> {
    const last = await database.get(LAST_NUMBER_KEY);
    if (last === undefined) return 0;
    try {
      return Number(Buffer.from(this.#formats.unseal(LAST_NUMBER_KEY, last)).toString());
    } catch (error) {
      this.#reportDamage(LAST_NUMBER_KEY, error);
      return 0;
    }
  }

  #reading(): KeyValue {
    if (this.#database) return this.#database;
    if (this.#state === "absent" || this.#state === "read-only") return nothing;
    if (this.#state !== "failed") throw new HoldfastError("stopped", "The store is not open.");
    // Where nobody writes, whoever reads is the one to open it again: a commit of nothing tries.
    void this.commit([], { sync: false }).catch(() => undefined);
    throw new HoldfastError("store_unreadable", "The store is not open.");
  }

  #reportDamage(key: string, error: unknown): void {
    this.#damaged++;
    this.#log.error("damaged record skipped", { key, error: describeError(error) });
  }
}

/** What can be read of a database that could not be opened. */
const nothing: KeyValue = {
  get: () => Promise.resolve(undefined),
  range: async function* () {},
  batch: () => Promise.reject(notWritable()),
  compact: () => Promise.resolve(),
  close: () => Promise.resolve(),
};
