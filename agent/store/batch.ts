import type { HoldfastError } from "../core/errors.ts";
import { LAST_NUMBER_KEY } from "./damage.ts";
import type { Formats } from "./formats.ts";
import type { Write } from "./port.ts";

/** One batch of LevelDB holds at most this; more waits for the next. */
const BATCH_BYTES = 4 * 1024 * 1024;

/** A commit that was asked for. */
export interface Waiting {
  readonly writes: readonly Write[];
  readonly sync: boolean;
  readonly resolve: () => void;
  readonly reject: (error: HoldfastError) => void;
}

export interface Operation {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

/** Commits that share a batch, and what they come to. */
export interface Batch {
  readonly group: readonly Waiting[];
  readonly operations: readonly Operation[];
  /** The last record number after it. */
  readonly lastNumber: number;
  /** The key of the record that has it; undefined: there is no new one. */
  readonly lastNumberedKey: string | undefined;
  readonly bytes: number;
}

/** Takes the first of those that wait, at least one, and gives their records numbers. */
export function formBatch(
  waiting: Waiting[],
  { lastNumber: before, formats }: { readonly lastNumber: number; readonly formats: Formats },
): Batch {
  const group: Waiting[] = [];
  const operations: Operation[] = [];
  let bytes = 0;
  let lastNumber = before;
  let lastNumberedKey: string | undefined;
  let deletes = false;
  while (waiting.length > 0 && (group.length === 0 || bytes < BATCH_BYTES)) {
    const one = waiting.shift() as Waiting;
    group.push(one);
    for (const write of one.writes) {
      const { key, value } = "numbered" in write ? write.numbered(++lastNumber) : write;
      const fullKey = `${write.table}/${key}`;
      if (value === undefined) deletes = true;
      if ("numbered" in write) lastNumberedKey = fullKey;
      operations.push({ key: fullKey, value: value && formats.seal(fullKey, value) });
      bytes += fullKey.length + (value?.length ?? 0);
    }
  }
  // Records that are there tell their numbers themselves. One more key in every batch would make
  // the tables of LevelDB overlap, and it would write a backlog five times instead of twice.
  if (deletes && lastNumber > 0) operations.push(lastNumberNow(lastNumber, formats));
  return { group, operations, lastNumber, lastNumberedKey, bytes };
}

export function lastNumberNow(lastNumber: number, formats: Formats): Operation {
  const content = Buffer.from(String(lastNumber));
  return { key: LAST_NUMBER_KEY, value: formats.seal(LAST_NUMBER_KEY, content) };
}
