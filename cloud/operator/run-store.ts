/**
 * What this person sent from this machine, and what came back.
 *
 * One file for each run, `<ULID>.json`, because several holdfast processes work here at once and a
 * database has one owner. Invariants:
 * - A run is written by the process that holds its slot and by no other; anyone may read.
 * - `create` resolves after a sync, before the command is published: a command that a device may
 *   have seen is never unknown here. `update` resolves after a sync, before the reply's PUBACK.
 * - The folder is bounded by count and age; runs that may still be answered go last. A run is looked
 *   up by its name, so a file that is damaged costs only itself.
 * - Full disk: `store_not_writable`, nothing is sent, and what was recorded stays.
 */
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../agent/core/clock.ts";
import { HoldfastError, isHoldfastError } from "../../agent/core/errors.ts";
import { draftPath, replaceFile } from "./durable-file.ts";
import { encodeRun, parseRun, type Run, runState } from "./run.ts";

const FILE_NAME = /^[0-9A-HJKMNP-TV-Z]{26}\.json$/;
/** Files looked at when one is created; more than one, so that a folder over its bound shrinks. */
const PRUNE_STEP = 16;

export interface RunStoreOptions {
  readonly dir: string;
  readonly maxRuns?: number;
  /** Milliseconds after which an ended or expired run goes. */
  readonly maxAgeMs?: number;
}

export class RunStore {
  readonly #dir: string;
  readonly #maxRuns: number;
  readonly #maxAgeMs: number;
  readonly #clock: Clock;
  /** The last write; the next one waits for it. */
  #writing: Promise<unknown> = Promise.resolve();

  constructor(options: RunStoreOptions, deps: { readonly clock: Clock }) {
    this.#dir = options.dir;
    this.#maxRuns = options.maxRuns ?? 10_000;
    this.#maxAgeMs = options.maxAgeMs ?? 30 * 86_400_000;
    this.#clock = deps.clock;
  }

  /** On disk when it resolves. */
  create(run: Run): Promise<void> {
    return this.#serially(async () => {
      await this.#write(run);
      await this.#prune().catch(() => undefined); // The run is safe; the next one prunes again.
    });
  }

  /**
   * Writes the `run` in what `change` gives, where there is one, and resolves with what it gave once
   * that is on disk. Undefined when there is no such run.
   */
  update<T extends { readonly run?: Run }>(
    id: string,
    change: (run: Run) => T,
  ): Promise<T | undefined> {
    return this.#serially(async () => {
      const run = await this.get(id);
      const changed = run && change(run);
      if (changed?.run) await this.#write(changed.run);
      return changed;
    });
  }

  /** Undefined when there is none; throws `store_damaged`. */
  async get(id: string): Promise<Run | undefined> {
    const name = `${id}.json`;
    if (!FILE_NAME.test(name)) return undefined;
    const path = join(this.#dir, name);
    let bytes: Uint8Array;
    try {
      bytes = await readFile(path);
    } catch (cause) {
      if (isMissing(cause)) return undefined;
      throw new HoldfastError("store_unreadable", `${path} cannot be read.`, { cause });
    }
    return parseRun(bytes, path);
  }

  /** The newest first; `damaged` is told of files that cannot be read, which are left alone. */
  async *list(damaged: (error: HoldfastError) => void = () => undefined): AsyncIterable<Run> {
    for (const id of (await this.#ids()).reverse()) {
      const run = await this.#getUnlessDamaged(id, damaged);
      if (run) yield run;
    }
  }

  async #getUnlessDamaged(
    id: string,
    damaged: (error: HoldfastError) => void,
  ): Promise<Run | undefined> {
    try {
      return await this.get(id);
    } catch (error) {
      if (!isHoldfastError(error)) throw error;
      damaged(error);
      return undefined;
    }
  }

  async #write(run: Run): Promise<void> {
    const path = this.#path(run.id);
    try {
      await mkdir(this.#dir, { recursive: true, mode: 0o700 });
      await replaceFile(path, encodeRun(run));
    } catch (cause) {
      throw new HoldfastError("store_not_writable", `${path} cannot be written.`, { cause });
    }
  }

  async #prune(): Promise<void> {
    const ids = await this.#ids();
    let over = ids.length - this.#maxRuns;
    for (const id of ids.slice(0, PRUNE_STEP)) {
      const run = await this.#getUnlessDamaged(id, () => undefined);
      const old = run !== undefined && this.#clock.wallMs() - run.createdAt > this.#maxAgeMs;
      if (over <= 0 && !run) continue; // Damaged: left alone; those behind it still go.
      if (over <= 0 && !old) return;
      // One that may still be answered stays until the folder holds twice what it should.
      if (run && over < this.#maxRuns && this.#isOpen(run)) continue;
      await rm(this.#path(id), { force: true });
      await rm(draftPath(this.#path(id)), { force: true });
      over--;
    }
  }

  #isOpen(run: Run): boolean {
    const state = runState(run, this.#clock.wallMs());
    return state !== "ended" && state !== "expired";
  }

  /** The oldest first: a ULID begins with the time. */
  async #ids(): Promise<string[]> {
    try {
      const names = await readdir(this.#dir);
      return names
        .filter((name) => FILE_NAME.test(name))
        .map((name) => name.slice(0, -".json".length))
        .sort();
    } catch (cause) {
      if (isMissing(cause)) return [];
      throw new HoldfastError("store_unreadable", `${this.#dir} cannot be read.`, { cause });
    }
  }

  #path(id: string): string {
    return join(this.#dir, `${id}.json`);
  }

  #serially<T>(action: () => Promise<T>): Promise<T> {
    const done = this.#writing.then(action);
    this.#writing = done.catch(() => undefined); // Its caller hears of it, the next one goes on.
    return done;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
