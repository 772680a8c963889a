import { packetIdOffset } from "../core/publish-packet.ts";
import { type Entry, provenAgeMs, type StoredRecord } from "./entry.ts";
import type { PlainRecord, RecordTime } from "./record.ts";

/**
 * The messages of one record that was read back, as long as nobody has to look at a single one of
 * them: they are sent and settled as what they are on disk, neighbours. An `Entry` for each is made
 * only where that does not do (`entriesOf`); it would be most of what the drain of a backlog costs.
 */
export interface Run {
  readonly record: StoredRecord;
  readonly content: PlainRecord;
  /** Of the next message that is not taken. */
  next: number;
}

/** Neighbours of a run, on their way to the service. */
export interface Slice {
  readonly run: Run;
  readonly from: number;
  readonly count: number;
  readonly bytes: number;
  /** Bit i: message i of the record is in flight. */
  open: number;
  takenMs: number;
}

export function isSlice(item: object): item is Slice {
  return "run" in item;
}

export function packetBytes({ content }: Run, index: number): number {
  return (content.packetEnds[index] as number) - (content.packetStarts[index] as number);
}

/** Whether its oldest message lived longer than it may, provably; the others came later. */
export function isRunOver({ record, content }: Run, now: RecordTime): boolean {
  return content.ttlMs !== 0 && provenAgeMs(record.time, now) > content.ttlMs;
}

/** The next messages of the run, at least one, as far as they fit. */
export function takeSlice(
  run: Run,
  room: { readonly messages: number; readonly bytes: number },
): Slice {
  const from = run.next;
  const end = Math.min(run.record.count, from + room.messages);
  let bytes = packetBytes(run, from);
  run.next++;
  while (run.next < end && bytes + packetBytes(run, run.next) <= room.bytes) {
    bytes += packetBytes(run, run.next++);
  }
  const count = run.next - from;
  return { run, from, count, bytes, open: maskOf(from, count), takenMs: 0 };
}

/** Writes the packets one behind the other, and where each begins and has its id. */
export function copyPackets(
  { run, from, count }: Slice,
  into: { readonly bytes: Buffer; readonly offsets: number[]; readonly packetIdAt: number[] },
  start: number,
): number {
  const { bytes, packetStarts, packetEnds } = run.content;
  let at = start;
  for (let index = from; index < from + count; index++) {
    const begin = packetStarts[index] as number;
    into.offsets.push(at);
    into.packetIdAt.push(packetIdOffset(bytes, begin) - begin + at);
    at += bytes.copy(into.bytes, at, begin, packetEnds[index]);
  }
  return at;
}

/** Those that are not taken, one by one. */
export function entriesOf(run: Run): Entry[] {
  const entries: Entry[] = [];
  for (; run.next < run.record.count; run.next++) entries.push(entryAt(run, run.next));
  return entries;
}

/** One message by itself; it is held in memory already. */
export function entryAt({ record, content }: Run, index: number): Entry {
  const offsetMs = content.offsetsMs[index] as number;
  const { monotonicMs, wallMs } = record.time;
  return {
    epoch: record.epoch,
    seq: record.firstSeq + index,
    lane: record.lane,
    packet: content.bytes.subarray(content.packetStarts[index], content.packetEnds[index]),
    ttlMs: content.ttlMs,
    key: "",
    producerId: "",
    acceptedAt: {
      ...record.time,
      monotonicMs: monotonicMs + offsetMs,
      wallMs: wallMs + offsetMs,
    },
    place: "stored",
    taken: false,
    takenMs: 0,
    record,
    indexInRecord: index,
    section: 0,
    waiting: undefined,
  };
}

/** Bits `from` to below `from + count`. */
export function maskOf(from: number, count: number): number {
  const all = count === 32 ? -1 : (1 << count) - 1;
  return all << from;
}
