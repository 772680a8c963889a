import type { Table } from "../../agent/store/store.ts";

/** Rows read at a time. */
export const ROWS = 1_000;

/**
 * A whole table in pages, so that no snapshot is held while its rows are worked on. A page of
 * nothing but damage is not the end of it.
 */
export async function* pages<V>(
  table: Table<V>,
  after = "",
  damaged: (key: string) => void = () => undefined,
): AsyncIterable<readonly [string, V]> {
  let gt = after;
  for (;;) {
    let count = 0;
    const unreadable = (key: string): void => {
      count++;
      if (key > gt) gt = key;
      damaged(key);
    };
    for await (const row of table.range({ gt, limit: ROWS, damaged: unreadable })) {
      count++;
      gt = row[0];
      yield row;
    }
    if (count === 0) return;
  }
}
