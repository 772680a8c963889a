import { messageId, type Receipt } from "../core/message.ts";
import type { Lane } from "./lane.ts";
import type { Place } from "./latest.ts";
import type { RecordTime } from "./record.ts";

/** A record on disk, as far as memory needs it. */
export interface StoredRecord {
  readonly lane: Lane;
  readonly number: number;
  readonly count: number;
  /** Bytes of the packets that are not gone. */
  bytes: number;
  /** Bit i: message i is settled or dropped. */
  gone: number;
  /** Bit i: message i is held in memory by an entry (loaded or in flight). */
  held: number;
  /** Bytes of the packets that are held. */
  heldBytes: number;
  /** In the lane's `stored` queue now. */
  queued: boolean;
  /** Others hold this very object besides: a read under way, the index of a lane's keys. */
  pins: number;
  readonly time: RecordTime;
  /** Of its first and last message. */
  readonly epoch: string;
  readonly firstSeq: number;
  readonly lastSeq: number;
}

/** A message in memory. */
export interface Entry {
  readonly epoch: string;
  readonly seq: number;
  readonly lane: Lane;
  readonly packet: Uint8Array;
  readonly ttlMs: number;
  readonly key: string;
  readonly producerId: string;
  readonly acceptedAt: RecordTime;
  /** fresh: not on disk. writing: in a commit under way. stored: on disk. gone: not ours any more. */
  place: "fresh" | "writing" | "stored" | "gone";
  /** Handed to the forwarder. */
  taken: boolean;
  takenMs: number;
  record: StoredRecord | undefined;
  indexInRecord: number;
  /** Records made while it waits never mix messages from before and after a staged one. */
  readonly section: number;
  /** Resolves or rejects the put that waits; undefined once it is answered. */
  waiting: Waiting | undefined;
  /** Puts of messages that this one replaced before they were safe: answered as this one is. */
  alsoWaiting?: Waiting[] | undefined;
  /** The message on disk that goes once this one is safe. */
  replaces?: Place | undefined;
  /** Not to be sent before the disk has it, or has refused it: else the one it replaces could. */
  held?: boolean;
}

export interface Waiting {
  resolve(receipt: Receipt): void;
  reject(error: Error): void;
}

/** Answers every put that waits for this message. */
export function answer(entry: Entry, outcome: Receipt["safe"] | Error): void {
  const { waiting, alsoWaiting, epoch, seq } = entry;
  if (!waiting && !alsoWaiting) return;
  entry.waiting = undefined;
  if (alsoWaiting) entry.alsoWaiting = undefined;
  for (const one of [...(alsoWaiting ?? []), ...(waiting ? [waiting] : [])]) {
    if (outcome instanceof Error) one.reject(outcome);
    else one.resolve({ id: messageId(epoch, seq), seq, safe: outcome });
  }
}

/** Whether a message that is on disk lived longer than it may, provably. */
export function isOver(entry: Entry, now: RecordTime): boolean {
  if (entry.ttlMs === 0 || entry.place === "fresh" || entry.place === "writing") return false;
  return provenAgeMs(entry.acceptedAt, now) > entry.ttlMs;
}

/** How old a message is, as far as it can be proven: in one boot, or between trusted wall times. */
export function provenAgeMs(accepted: RecordTime, now: RecordTime): number {
  if (accepted.bootId === now.bootId) return Math.max(0, now.monotonicMs - accepted.monotonicMs);
  if (accepted.trusted && now.trusted) return Math.max(0, now.wallMs - accepted.wallMs);
  return 0;
}
