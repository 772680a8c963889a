import { crc32 } from "node:zlib";
import type { Formats } from "./formats.ts";
import type { KeyValue } from "./level.ts";
import type { Store } from "./port.ts";
import { makeTable } from "./table.ts";

/** The last record number, as the database itself knows it. */
export const LAST_NUMBER_KEY = "meta/last_number";

const NUMBERED_KEY = /\/[0-9a-f]{12}$/;

/** How many numbered records up to `lastNumber` are neither there nor known to be gone. */
export type MissingCounter = (tables: Pick<Store, "table">, lastNumber: number) => Promise<number>;

/** What one look at every value of a database found. */
export interface Findings {
  /** Values whose seal is whole. */
  readonly sound: number;
  readonly broken: number;
  /** A sum over the keys of the broken ones, to tell known damage from new. */
  readonly brokenSum: number;
  readonly lastNumber: number;
  readonly missing: number;
}

/**
 * Reads every value. LevelDB does not notice bit rot and opens cut files with fewer records, so
 * that it opened says nothing. Throws when it cannot be read to the end.
 */
export async function inspect(
  database: KeyValue,
  options: {
    readonly anchored: number;
    readonly formats: Formats;
    readonly countMissing: MissingCounter;
  },
): Promise<Findings> {
  const { formats } = options;
  let sound = 0;
  let broken = 0;
  let brokenSum = 0;
  let lastNumber = 0;
  const everything = { gt: "", lte: "\x7f", limit: Number.POSITIVE_INFINITY, reverse: false };
  for await (const [key, value] of database.range(everything)) {
    try {
      const content = formats.unseal(key, value);
      sound++;
      const number =
        key === LAST_NUMBER_KEY ? Number(Buffer.from(content).toString()) : numberIn(key);
      lastNumber = Math.max(lastNumber, number);
    } catch {
      broken++;
      brokenSum = crc32(key, brokenSum);
    }
  }
  const source = { formats, database: () => database, onDamage: () => undefined };
  const missing = await options.countMissing(
    { table: (name, codec) => makeTable(name, codec, source) },
    Math.max(lastNumber, options.anchored),
  );
  return { sound, broken, brokenSum, lastNumber, missing };
}

/** Keys of numbered records end with twelve hexadecimal digits (port.ts); 0 for all others. */
function numberIn(key: string): number {
  return NUMBERED_KEY.test(key) ? Number.parseInt(key.slice(-12), 16) : 0;
}
