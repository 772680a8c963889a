import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { HoldfastError, isHoldfastError } from "../core/errors.ts";
import { isLocked } from "./opening.ts";

export function notWritable(cause?: unknown): HoldfastError {
  return new HoldfastError("store_not_writable", "The disk does not take writes now.", { cause });
}

export function noRoom(): HoldfastError {
  const message = "There is no room for more: the quota or the floor of free space is reached.";
  return new HoldfastError("store_not_writable", message, { details: { short: true } });
}

export function newerFormat(dir: string, format: number): HoldfastError {
  const message = `The state folder ${dir} has format ${format}, which a newer release wrote.`;
  return new HoldfastError("store_newer_format", message, { details: { format } });
}

/** No number of attempts changes these. */
export function isLasting({ code }: HoldfastError): boolean {
  return code === "store_locked" || code === "store_newer_format";
}

export async function asNotWritable<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    throw notWritable(cause);
  }
}

/** What the library says of an opening, as an error of ours. */
export async function asOpening<T>(dir: string, opening: Promise<T>): Promise<T> {
  try {
    return await opening;
  } catch (cause) {
    if (isLocked(cause)) throw await lockedError(dir, cause);
    if (isHoldfastError(cause)) throw cause;
    const message = `The database in ${dir} does not open.`;
    throw new HoldfastError("store_unreadable", message, { details: { dir }, cause });
  }
}

async function lockedError(dir: string, cause: unknown): Promise<HoldfastError> {
  const pid = (await readFile(join(dir, "holder.pid"), "utf8").catch(() => "")).trim();
  const holder = pid === "" ? "another process" : `process ${pid}`;
  const message = `The state folder ${dir} is held by ${holder}.`;
  const details = pid === "" ? { dir } : { dir, pid: Number(pid) };
  return new HoldfastError("store_locked", message, { details, cause });
}
