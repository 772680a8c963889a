import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { HoldfastError } from "../core/errors.ts";
import { isJsonObject } from "../core/json.ts";
import { writeDurably } from "./state-files.ts";

/** `store.json`: it says that a database must exist, and in which format. */
export interface Marker {
  readonly format: number;
  readonly id: string;
  /** How often a damaged database was dealt with in this folder. */
  readonly salvages: number;
  /** A sum over the keys of values that were broken then; see `Findings.brokenSum`. */
  readonly knownBroken: number;
}

const NAME = "store.json";

/** Undefined on a first start only: a marker that cannot be read now is no first start. */
export async function readMarker(dir: string): Promise<Marker | undefined> {
  const path = join(dir, NAME);
  try {
    return parseMarker(await readFile(path, "utf8"));
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined;
    throw new HoldfastError("store_unreadable", `The file ${path} cannot be read.`, { cause });
  }
}

export async function writeMarker(dir: string, marker: Marker): Promise<void> {
  await writeDurably(dir, NAME, `${JSON.stringify({ ...marker, sum: sumOf(marker) })}\n`);
}

/** A torn or changed marker still says that a database must exist, and nothing else. */
function parseMarker(text: string): Marker {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    parsed = undefined;
  }
  const { format, id, salvages, knownBroken, sum } = isJsonObject(parsed) ? parsed : {};
  const marker = {
    format: numberOr(0, format),
    id: typeof id === "string" ? id : "",
    salvages: numberOr(0, salvages),
    knownBroken: numberOr(0, knownBroken),
  };
  // Without a sum it is of the first release; or the name of the sum is what changed.
  if (sum === undefined || sum === sumOf(marker)) return marker;
  return { format: 0, id: "", salvages: 0, knownBroken: 0 };
}

/** One bit more in the format would lock the folder for ever. */
function sumOf({ format, id, salvages, knownBroken }: Marker): number {
  return crc32(JSON.stringify([format, id, salvages, knownBroken]));
}

function numberOr(otherwise: number, value: unknown): number {
  return typeof value === "number" ? value : otherwise;
}
