import type { Entry } from "./entry.ts";
import { isOver } from "./entry.ts";
import type { Taken } from "./in-flight.ts";
import type { Lane } from "./lane.ts";
import type { Quarantine } from "./quarantine.ts";
import type { RecordTime } from "./record.ts";
import { isRunOver, packetBytes, takeSlice } from "./run.ts";
import type { FairShare } from "./share.ts";

export interface Collected {
  readonly taken: readonly Taken[];
  /** It has to be read before more can be taken. */
  readonly load?: Lane;
  /** When a lane that the disk does not give now is tried again; infinite: there is none. */
  readonly retryMs: number;
}

/** What is asked on the way: who parks messages, and who lets go of those that are too old. */
export interface Sorting {
  readonly quarantine: Pick<Quarantine, "isCalm" | "isFull" | "wants" | "divert">;
  readonly expire: (entry: Entry) => void;
}

/**
 * Untaken messages from memory in order of priority, by share among lanes of one; stops where a
 * lane has to be read first. A lane that the disk does not give now is passed over.
 */
export function collect(
  shares: readonly FairShare<Lane>[],
  limit: { readonly messages: number; readonly bytes: number },
  now: RecordTime,
  { quarantine, expire }: Sorting,
): Collected {
  const taken: Taken[] = [];
  let messages = 0;
  let bytes = 0;
  let retryMs = Number.POSITIVE_INFINITY;
  const headBytes = (lane: Lane): number | undefined => {
    if (!lane.mustLoad) {
      const run = quarantine.isCalm ? lane.headRun : undefined;
      if (run) return packetBytes(run, run.next);
      const entry = lane.peek();
      const waits = quarantine.isFull && entry !== undefined && quarantine.wants(entry);
      return waits ? undefined : entry?.packet.length;
    }
    const waitMs = lane.unreadableUntilMs - now.monotonicMs;
    if (waitMs <= 0) return 0; // To be read when it is its turn.
    retryMs = Math.min(retryMs, waitMs);
    return undefined;
  };
  for (const share of shares) {
    while (messages < limit.messages) {
      const lane = share.pick(headBytes);
      if (!lane) break;
      if (lane.mustLoad) return { taken, load: lane, retryMs };
      const run = quarantine.isCalm ? lane.headRun : undefined;
      if (run && !isRunOver(run, now)) {
        const room = limit.bytes - bytes;
        if (messages > 0 && packetBytes(run, run.next) > room) return { taken, retryMs };
        const slice = takeSlice(run, {
          messages: limit.messages - messages,
          bytes: Math.min(room, share.allowance),
        });
        if (run.next === run.record.count) lane.runs.shift();
        share.charge(slice.bytes);
        messages += slice.count;
        bytes += slice.bytes;
        taken.push(slice);
        continue;
      }
      const entry = lane.peek() as Entry;
      if (quarantine.wants(entry)) {
        lane.shift();
        quarantine.divert(entry);
        continue;
      }
      const full = messages > 0 && bytes + entry.packet.length > limit.bytes;
      if (full) return { taken, retryMs };
      lane.shift();
      if (isOver(entry, now)) {
        expire(entry);
        continue;
      }
      share.charge(entry.packet.length);
      bytes += entry.packet.length;
      messages++;
      taken.push(entry);
    }
  }
  return { taken, retryMs };
}
