import type { Codec, Store } from "../store/store.ts";
import { Ledger } from "./ledger.ts";
import { NumberSet } from "./numbers.ts";

const noValue: Codec<undefined> = { encode: () => new Uint8Array(0), decode: () => undefined };

/**
 * How many record numbers up to `lastNumber` are neither on disk nor known to be gone, in a database
 * that is looked at before it is trusted. A record whose seal is broken is one of them.
 */
export async function countMissing(
  tables: Pick<Store, "table">,
  lastNumber: number,
): Promise<number> {
  const ledger = new Ledger(tables);
  await ledger.load();
  const there = new NumberSet();
  const records = tables.table("outbox", noValue);
  for await (const [key] of records.range({ limit: Number.POSITIVE_INFINITY })) {
    there.add(Number.parseInt(key.slice(key.indexOf("/") + 1), 16));
  }
  let missing = 0;
  const last = Math.max(lastNumber, there.highest, ledger.highest);
  for (let number = ledger.through + 1; number <= last; number++) {
    if (!there.has(number) && !ledger.isGone(number)) missing++;
  }
  return missing;
}
