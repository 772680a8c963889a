import { readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { describeError, HoldfastError, isHoldfastError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { type Findings, inspect, type MissingCounter } from "./damage.ts";
import { brokenLogs, copyDatabase, dataFiles, inventory } from "./folders.ts";
import type { Formats } from "./formats.ts";
import { refuseHeld } from "./held.ts";
import type { KeyValue, KeyValueOpener } from "./level.ts";
import { syncFolder, systemCode } from "./state-files.ts";

/**
 * Opens the database of a state folder without trusting it.
 *
 * A folder that is as the last clean stop left it is opened as it is. Any other one is copied first,
 * because opening a damaged LevelDB deletes what a repair needs; then it is opened and every value
 * is looked at. With damage a second copy is repaired and looked at too, and the one with more sound
 * values stays. The untouched copy is set aside as `damaged-N`, the one before it goes.
 *
 * Folders beside `db`, so that a stop at any moment is gone on from: `db.copying` a copy under way,
 * `db.keep` the untouched copy, `db.repair` a repair under way, `db.ready` what is to become `db`,
 * `db.drop` what is to go.
 */
export interface OpeningDeps {
  readonly openDatabase: KeyValueOpener;
  readonly formats: Formats;
  readonly repair: (folder: string) => Promise<void>;
  readonly countMissing: MissingCounter;
  /** Makes opening safe for a copy of hard links; throws where it cannot be. */
  readonly prepare: (folder: string) => Promise<void>;
  /** Rejects while the disk does not take writes. */
  readonly probe: () => Promise<void>;
  readonly log: Logger;
}

export interface Expected {
  /** Records up to this number were committed. */
  readonly anchored: number;
  /** Of the folder at the last clean stop. */
  readonly inventory: number | undefined;
  /** Damage that an earlier start has dealt with. */
  readonly knownBroken: number;
}

export interface Salvage {
  /** kept: nothing better than what opened. repaired: by a copy. replaced: by an empty one. */
  readonly outcome: "kept" | "repaired" | "replaced";
  readonly cause: string;
  /** The name of the folder with the original. */
  readonly aside: string;
  /** Of the database that is used now. */
  readonly findings: Findings;
}

export interface Opened {
  readonly database: KeyValue;
  /** It is as the last clean stop left it, to the byte. */
  readonly untouched?: boolean;
  readonly salvage: Salvage | undefined;
}

interface Attempt {
  readonly database?: KeyValue;
  readonly findings?: Findings;
  readonly error?: unknown;
}

const ASIDE = /^damaged-(\d+)$/;
const NOTHING: Findings = { sound: 0, broken: 0, brokenSum: 0, lastNumber: 0, missing: 0 };

export class Opening {
  readonly #dir: string;
  readonly #deps: OpeningDeps;
  readonly #log: Logger;

  constructor(dir: string, deps: OpeningDeps) {
    this.#dir = dir;
    this.#deps = deps;
    this.#log = deps.log;
  }

  /** Throws `store_not_writable` when the disk is the fault; the library's error when locked. */
  async open(expected: Expected): Promise<Opened> {
    await refuseHeld(this.#at("db"));
    await this.#finishSwap();
    const kept = await this.#has("db.keep");
    if (!kept && expected.inventory !== undefined) {
      if (expected.inventory === (await inventory(this.#at("db")))) {
        const { database, error } = await this.#tryOpen("db");
        if (database) return { database, salvage: undefined, untouched: true };
        this.#log.warn("database does not open", { error: describeError(error) });
      }
    }
    const unreadable = kept ? [] : await this.#keepCopy();
    const doubtful = [...unreadable, ...(await brokenLogs(this.#at("db.keep")))];
    const found = await this.#attemptOriginal(expected);
    const { database, findings } = found;
    if (database && findings && !isDamaged(findings, expected) && doubtful.length === 0) {
      await this.#drop("db.keep");
      return { database, salvage: undefined };
    }
    return this.#salvage(found, expected, doubtful);
  }

  /** A new database; what is there under its name is set aside first. */
  create(): Promise<KeyValue> {
    return this.#deps.openDatabase(this.#at("db"), { createIfMissing: true });
  }

  /** The name of the folder that is set aside; undefined: there is none. */
  async aside(): Promise<string | undefined> {
    const names = await readdir(this.#dir).catch(() => []);
    return names.filter((name) => ASIDE.test(name)).at(-1);
  }

  /** Deletes what is set aside; gives its name. */
  async removeAside(): Promise<string | undefined> {
    const name = await this.aside();
    if (name !== undefined) await rm(this.#at(name), { recursive: true, force: true });
    return name;
  }

  async #salvage(found: Attempt, expected: Expected, doubtful: string[]): Promise<Opened> {
    const cause = causeOf(found, expected, doubtful);
    this.#log.error("store damaged", { cause });
    const repaired = await this.#repairCopy(expected);
    const best = (repaired.findings?.sound ?? 0) > (found.findings?.sound ?? 0);
    await repaired.database?.close();
    if (best && repaired.findings) {
      await found.database?.close();
      await this.#rename("db.repair", "db.ready");
      const aside = await this.#swapIn();
      const database = await this.#deps.openDatabase(this.#at("db"), { createIfMissing: false });
      return {
        database,
        salvage: { outcome: "repaired", cause, aside, findings: repaired.findings },
      };
    }
    await this.#drop("db.repair");
    if (found.database && found.findings && found.findings.sound > 0) {
      if (!isDamaged(found.findings, expected)) {
        await this.#drop("db.keep");
        return { database: found.database, salvage: undefined };
      }
      const aside = await this.#setAside();
      const salvage: Salvage = { outcome: "kept", cause, aside, findings: found.findings };
      return { database: found.database, salvage };
    }
    await found.database?.close();
    await this.#drop("db");
    const aside = await this.#setAside();
    const salvage: Salvage = { outcome: "replaced", cause, aside, findings: NOTHING };
    return { database: await this.create(), salvage };
  }

  async #repairCopy(expected: Expected): Promise<Attempt> {
    try {
      await copyDatabase(this.#at("db.keep"), this.#at("db.repair"));
      await this.#deps.repair(this.#at("db.repair"));
    } catch (error) {
      await this.#refuseFullDisk(error);
      this.#log.warn("repair failed", { error: describeError(error) });
      return { error };
    }
    return this.#attempt("db.repair", expected);
  }

  async #attemptOriginal(expected: Expected): Promise<Attempt> {
    try {
      await this.#deps.prepare(this.#at("db"));
    } catch (error) {
      return { error };
    }
    return this.#attempt("db", expected);
  }

  async #attempt(name: string, expected: Expected): Promise<Attempt> {
    const { database, error } = await this.#tryOpen(name);
    if (!database) return { error };
    const { countMissing, formats } = this.#deps;
    const { anchored } = expected;
    try {
      return { database, findings: await inspect(database, { anchored, formats, countMissing }) };
    } catch (reading) {
      await database.close().catch(() => undefined);
      return { error: reading };
    }
  }

  async #tryOpen(name: string): Promise<Attempt> {
    try {
      const database = await this.#deps.openDatabase(this.#at(name), { createIfMissing: false });
      return { database };
    } catch (error) {
      if (isLocked(error)) {
        // A copy of a living database must never be taken for what was there at a start.
        await this.#remove("db.keep");
        throw error;
      }
      await this.#refuseFullDisk(error);
      return { error };
    }
  }

  /** A disk that takes no writes makes opening fail too, and is no damage. */
  async #refuseFullDisk(error: unknown): Promise<void> {
    const code = systemCode(error);
    let cause: unknown;
    if (code === "ENOSPC" || code === "EROFS") cause = error;
    else
      cause = await this.#deps.probe().then(
        () => undefined,
        (fault: unknown) => fault,
      );
    if (cause === undefined) return;
    throw new HoldfastError("store_not_writable", "The disk does not take writes now.", { cause });
  }

  /** Gives the names of files that cannot be read. */
  async #keepCopy(): Promise<string[]> {
    try {
      const unreadable = await copyDatabase(this.#at("db"), this.#at("db.copying"));
      await this.#rename("db.copying", "db.keep");
      return unreadable;
    } catch (cause) {
      if (isHoldfastError(cause)) throw cause;
      const message = "The disk does not take writes now.";
      throw new HoldfastError("store_not_writable", message, { cause });
    }
  }

  async #finishSwap(): Promise<void> {
    for (const name of ["db.copying", "db.repair", "db.drop"]) await this.#remove(name);
    if (await this.#has("db.ready")) await this.#swapIn();
  }

  async #swapIn(): Promise<string> {
    if (await this.#has("db")) await this.#rename("db", "db.drop");
    await this.#rename("db.ready", "db");
    const aside = await this.#setAside();
    await this.#remove("db.drop");
    return aside;
  }

  async #setAside(): Promise<string> {
    const before = await this.removeAside();
    const name = `damaged-${Number(ASIDE.exec(before ?? "")?.[1] ?? 0) + 1}`;
    if (await this.#has("db.keep")) await this.#rename("db.keep", name);
    return name;
  }

  /** Renamed first, so that no half of it is ever taken for the whole. */
  async #drop(name: string): Promise<void> {
    if (!(await this.#has(name))) return;
    await this.#remove("db.drop");
    await this.#rename(name, "db.drop");
    await this.#remove("db.drop");
  }

  async #rename(from: string, to: string): Promise<void> {
    await rename(this.#at(from), this.#at(to));
    await syncFolder(this.#dir);
  }

  async #remove(name: string): Promise<void> {
    await rm(this.#at(name), { recursive: true, force: true });
  }

  async #has(name: string): Promise<boolean> {
    const names: string[] = await readdir(this.#dir).catch(() => []);
    return names.includes(name);
  }

  #at(name: string): string {
    return join(this.#dir, name);
  }
}

/** Whether a folder without a marker holds data all the same: then it is no first start. */
export async function holdsData(dir: string): Promise<boolean> {
  const names = await dataFiles(join(dir, "db"));
  return names.some((name) => name.endsWith(".ldb"));
}

export function isLocked(error: unknown): boolean {
  if (isHoldfastError(error, "store_locked")) return true;
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && "code" in cause && cause.code === "LEVEL_LOCKED";
}

function isDamaged(findings: Findings, { anchored, knownBroken }: Expected): boolean {
  const { broken, brokenSum, lastNumber, missing } = findings;
  return (broken > 0 && brokenSum !== knownBroken) || lastNumber < anchored || missing > 0;
}

function causeOf({ error, findings }: Attempt, { anchored }: Expected, doubtful: string[]) {
  const parts: string[] = [];
  if (doubtful.length > 0) parts.push(`files with damage: ${doubtful.join(", ")}`);
  if (error !== undefined) parts.push(describeError(error));
  if (findings) {
    const { broken, lastNumber, missing } = findings;
    if (broken > 0) parts.push(`${broken} values with a broken seal`);
    if (missing > 0) parts.push(`${missing} records missing`);
    if (lastNumber < anchored) {
      parts.push(`the last record is ${lastNumber}, and ${anchored} was committed`);
    }
  }
  return parts.join("; ");
}
