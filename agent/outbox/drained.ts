import type { StoredRecord } from "./entry.ts";
import type { Lane } from "./lane.ts";
import { hex } from "./ledger.ts";

/** Keys of the outbox's table that hold nothing any more. */
export interface DrainedRange {
  readonly from: string;
  readonly to: string;
}

/**
 * For each lane the keys before its oldest record that may still be needed: compacting these costs
 * next to nothing, because nothing in them has to be written again.
 */
export function drainedRanges(
  lanes: Iterable<Lane>,
  inFlight: Iterable<StoredRecord>,
): DrainedRange[] {
  const oldest = new Map<Lane, number>();
  const note = (lane: Lane, number: number | undefined): void => {
    if (number === undefined) return;
    oldest.set(lane, Math.min(number, oldest.get(lane) ?? Number.POSITIVE_INFINITY));
  };
  for (const { lane, number } of inFlight) note(lane, number);
  return [...lanes].map((lane) => {
    note(lane, lane.loaded.peek()?.record?.number);
    note(lane, lane.runs.peek()?.record.number);
    note(lane, lane.stored.peek()?.number);
    note(lane, lane.tail.peek()?.record?.number);
    const end = oldest.get(lane);
    return { from: `${lane.name}/`, to: `${lane.name}/${end === undefined ? "\x7f" : hex(end)}` };
  });
}
