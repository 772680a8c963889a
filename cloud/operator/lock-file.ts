/**
 * A lock between processes as a file that names its holder, because Node has no flock.
 *
 * - A lock appears complete or not at all: its text is written to a file of its own, which is then
 *   linked to the lock's name; linking fails where the name exists, as O_EXCL does.
 * - Only its holder removes a lock of a living process.
 * - The lock of a dead process is replaced by renaming over it, never removed first, and only under
 *   a second lock that belongs to this one dead lock (its name ends in the dead lock's nonce). So
 *   of two processes that find the same dead lock one replaces it, and the other, when its turn
 *   comes, sees a nonce that it did not expect. The second lock can be left by a dead process as
 *   well and is treated alike, up to `MAX_DEPTH`.
 * - A file that cannot be read as a lock is what a power cut left: nobody holds it.
 */
import { createHash } from "node:crypto";
import { link, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { HoldfastError } from "../../agent/core/errors.ts";
import { isJsonObject } from "../../agent/core/json.ts";
import { type Random, ulid } from "../../agent/core/random.ts";
import type { ProcessIdentity, ProcessTable } from "./process-identity.ts";

const MAX_DEPTH = 3;

export interface LockFile {
  readonly path: string;
  release(): Promise<void>;
}

export type LockAttempt =
  | { readonly taken: true; readonly lock: LockFile }
  | { readonly taken: false; readonly holder: ProcessIdentity };

interface LockDeps {
  readonly processes: ProcessTable;
  readonly random: Random;
}

interface LockText {
  readonly nonce: string;
  /** Undefined when the file says nothing that can be understood. */
  readonly holder: ProcessIdentity | undefined;
}

/** One attempt, which never waits; throws `store_not_writable` when the folder takes no files. */
export async function tryLock(path: string, deps: LockDeps): Promise<LockAttempt> {
  const self = deps.processes.self();
  const nonce = ulid(0, deps.random);
  const draft = `${path}.${nonce}.new`;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFile(draft, JSON.stringify({ nonce, ...self }), { mode: 0o600, flag: "wx" });
    return await claim({ path, draft, nonce, self, deps, depth: 0 });
  } catch (cause) {
    throw new HoldfastError("store_not_writable", `The lock file ${path} cannot be made.`, {
      cause,
    });
  } finally {
    await rm(draft, { force: true });
  }
}

interface Claim {
  readonly path: string;
  readonly draft: string;
  readonly nonce: string;
  readonly self: ProcessIdentity;
  readonly deps: LockDeps;
  readonly depth: number;
}

async function claim(wanted: Claim): Promise<LockAttempt> {
  const { path, draft, nonce, self, deps, depth } = wanted;
  for (let round = 0; round < 3; round++) {
    if (await linked(draft, path)) return taken(path, nonce);
    const found = await readLock(path);
    if (!found) continue; // Released between the two looks.
    if (found.holder && deps.processes.mayLive(found.holder)) {
      return { taken: false, holder: found.holder };
    }
    if (depth >= MAX_DEPTH) break;
    const right = await claim({ ...wanted, path: `${path}.${found.nonce}`, depth: depth + 1 });
    if (!right.taken) return right;
    try {
      if ((await readLock(path))?.nonce !== found.nonce) continue; // Another was first.
      await replace(wanted);
      return taken(path, nonce);
    } finally {
      await right.lock.release();
    }
  }
  return { taken: false, holder: self }; // Too lively to tell: as good as held.
}

/** The draft stays for the claims above this one, so a copy of it is renamed over the dead lock. */
async function replace({ path, draft }: Claim): Promise<void> {
  const copy = `${draft}.over`;
  await link(draft, copy);
  await rename(copy, path);
}

function taken(path: string, nonce: string): LockAttempt {
  let held = true;
  const release = async (): Promise<void> => {
    if (!held) return;
    held = false;
    // Somebody who removed the file by hand may have let another in.
    if ((await readLock(path))?.nonce === nonce) await rm(path, { force: true });
  };
  return { taken: true, lock: { path, release } };
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (isCode(error, "EEXIST")) return false;
    throw error;
  }
}

async function readLock(path: string): Promise<LockText | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (isCode(error, "ENOENT")) return undefined;
    throw error;
  }
  return parseLock(text) ?? { nonce: `unreadable-${digest(text)}`, holder: undefined };
}

function parseLock(text: string): LockText | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isJsonObject(value)) return undefined;
  const { nonce, host, pid, startedTicks, bootId, pidNamespace } = value;
  if (typeof nonce !== "string" || !/^[0-9A-Z]{26}$/.test(nonce)) return undefined;
  if (!isWhole(pid) || pid < 1 || !isWhole(startedTicks)) return undefined;
  if (typeof host !== "string" || typeof bootId !== "string") return undefined;
  if (typeof pidNamespace !== "string") return undefined;
  return { nonce, holder: { host, pid, startedTicks, bootId, pidNamespace } };
}

function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
