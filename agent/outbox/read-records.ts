import { describeError, isHoldfastError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { Table } from "../store/store.ts";
import type { StoredRecord } from "./entry.ts";
import { hex } from "./ledger.ts";
import { decodePlainRecord, decodeRecord, type OutboxRecord, type PlainRecord } from "./record.ts";

/** What a record holds, in one piece where it can be. */
export type Content = OutboxRecord | PlainRecord;

/** Records read in one go may lie among so many of their lane for each that is wanted. */
const SPREAD = 4;

/**
 * Reads records of one lane, given in the order of their numbers. Undefined: missing or damaged.
 * Throws when the disk cannot be read now.
 *
 * Neighbours are read in one go: a look-up of each alone costs the main thread more than all that
 * is done with its messages. Where that fails they are looked up one by one, so that what one
 * damaged spot spoils does not spoil the others.
 */
export async function readRecords(
  table: Table<Uint8Array>,
  records: readonly StoredRecord[],
  log: Logger,
): Promise<(Content | undefined)[]> {
  const found = await readRange(table, records).catch(() => undefined);
  return Promise.all(
    records.map((record) => found?.get(record.number) ?? readOne(table, record, log)),
  );
}

async function readRange(
  table: Table<Uint8Array>,
  records: readonly StoredRecord[],
): Promise<ReadonlyMap<number, Content> | undefined> {
  const first = records[0];
  const last = records.at(-1);
  if (!first || !last || records.length === 1) return undefined;
  const span = last.number - first.number;
  if (span < 0 || span > SPREAD * records.length) return undefined;
  const wanted = new Set(records.map(({ number }) => number));
  const found = new Map<number, Content>();
  const gt = `${first.lane.name}/${hex(first.number - 1)}`;
  const range = { gt, lte: keyOf(last), limit: Number.POSITIVE_INFINITY };
  for await (const [key, value] of table.range(range)) {
    const number = Number.parseInt(key.slice(key.indexOf("/") + 1), 16);
    if (!wanted.has(number)) continue;
    const record = decoded(value);
    if (record) found.set(number, record);
  }
  return found;
}

async function readOne(
  table: Table<Uint8Array>,
  record: StoredRecord,
  log: Logger,
): Promise<Content | undefined> {
  const key = keyOf(record);
  try {
    const value = await table.get(key);
    if (value !== undefined) return decode(value);
  } catch (error) {
    if (!isHoldfastError(error, "store_damaged")) throw error;
    log.debug("record damaged", { key, error: describeError(error) });
  }
  return undefined;
}

/** Undefined: looked at again alone, where its damage is told. */
function decoded(value: Uint8Array): Content | undefined {
  try {
    return decode(value);
  } catch {
    return undefined;
  }
}

function decode(value: Uint8Array): Content {
  return decodePlainRecord(value) ?? decodeRecord(value);
}

function keyOf({ lane, number }: StoredRecord): string {
  return `${lane.name}/${hex(number)}`;
}
