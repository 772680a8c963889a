import { type BackoffOptions, backoffCeilingMs } from "../core/backoff.ts";
import { type MessageId, messageId } from "../core/message.ts";
import type { CaseRecord } from "./quarantine-record.ts";
import type { RecordTime } from "./record.ts";

/** Between two tries of what is in quarantine: doubled after each that failed. */
const RETRY: BackoffOptions = { minMs: 60_000, maxMs: 86_400_000 };

/** A message in quarantine, as far as memory needs it. */
export interface Parked {
  /** Its place in the table, and the order of parking. */
  readonly place: number;
  readonly epoch: string;
  readonly seq: number;
  readonly lane: string;
  /** Of the packet. */
  readonly bytes: number;
  readonly payloadBytes: number;
  /** Wall time of its acceptance. */
  readonly at: number;
  readonly parkedAt: RecordTime;
  in: Case;
  /** On its way out again: in its lane or in flight. */
  handed: boolean;
}

/** One topic that was found guilty, or one message of a topic that otherwise goes through. */
export class Case {
  readonly number: number;
  readonly scope: CaseRecord["scope"];
  readonly topic: string;
  readonly reason: string;
  tries: number;
  triedAt: RecordTime;
  /** Monotonic time of the next try. */
  nextTryMs: number;
  /** Somebody asked for the try. */
  forced = false;
  releasing: boolean;
  /** Further messages of the topic come here without being tried. */
  blocks: boolean;
  /** In the order of parking. */
  readonly messages = new Set<Parked>();
  /** On their way here, not on disk yet. */
  pending = 0;
  trial: Parked | undefined;

  constructor(number: number, record: Omit<CaseRecord, "v">, nowMs: number, waitedMs = 0) {
    this.number = number;
    this.scope = record.scope;
    this.topic = record.topic;
    this.reason = record.reason;
    this.tries = record.tries;
    this.triedAt = record.triedAt;
    this.releasing = record.releasing;
    this.blocks = record.scope === "topic";
    this.nextTryMs = nowMs + Math.max(0, backoffCeilingMs(record.tries, RETRY) - waitedMs);
  }

  get record(): CaseRecord {
    const { scope, topic, reason, tries, triedAt, releasing } = this;
    return { v: 1, scope, topic, reason, tries, triedAt, releasing };
  }

  get isOver(): boolean {
    return this.messages.size === 0 && this.pending === 0 && (this.releasing || !this.blocks);
  }

  /** Monotonic time at which one of its messages is to be tried; infinity while none can be. */
  get trialMs(): number {
    const none = this.releasing || this.trial !== undefined || !this.hasUnhanded;
    return none ? Number.POSITIVE_INFINITY : this.nextTryMs;
  }

  /**
   * The oldest; every second try of a topic the one behind it, because only that tells a topic that
   * is refused from one message that is.
   */
  get candidate(): Parked | undefined {
    const [first, second] = this.unhanded();
    return !this.forced && this.tries % 2 === 1 ? (second ?? first) : first;
  }

  failed(now: RecordTime): void {
    this.tries++;
    this.triedAt = now;
    this.forced = false;
    this.releasing = false;
    this.nextTryMs = now.monotonicMs + backoffCeilingMs(this.tries, RETRY);
  }

  /** A try ended without an answer. */
  postponed(nowMs: number): void {
    this.forced = false;
    this.nextTryMs = nowMs + RETRY.minMs;
  }

  force(nowMs: number): void {
    this.forced = true;
    this.nextTryMs = nowMs;
  }

  get hasUnhanded(): boolean {
    for (const { handed } of this.messages) if (!handed) return true;
    return false;
  }

  *unhanded(): Generator<Parked, undefined> {
    for (const parked of this.messages) if (!parked.handed) yield parked;
    return undefined;
  }
}

export function idOf({ epoch, seq }: { readonly epoch: string; readonly seq: number }): MessageId {
  return messageId(epoch, seq);
}
