/**
 * The words that cross the hot ports between outbox, forwarder and session. Batches cross them,
 * not messages: one batch is one piece of encoded PUBLISH packets and the ids of what is in it.
 */

/** `<epoch>-<seq>`: epoch a random ULID per process start, seq from 1. Never reused. */
export type MessageId = `${string}-${number}`;

/** Consecutive messages of one epoch, both ends included. */
export interface IdRange {
  readonly epoch: string;
  readonly from: number;
  readonly to: number;
}

export interface OutgoingMessage {
  /** The whole topic, parent included. */
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly lane: string;
  /** For lanes that keep only the latest message of a key. */
  readonly key?: string;
  /** Lifetime; 0 is none; without it the lane's. */
  readonly ttlMs?: number;
  /** The producer's own id, which makes its retry safe within the lane. */
  readonly producerId?: string;
}

export interface Receipt {
  readonly id: MessageId;
  readonly seq: number;
  /** What made it safe first: the service's acknowledgement or the disk. */
  readonly safe: "broker" | "disk";
}

/** Encoded QoS 1 PUBLISH packets in sending order, ready but for their packet ids. */
export interface Batch {
  readonly bytes: Uint8Array;
  readonly count: number;
  /** Where packet i starts; has count + 1 entries, the last is bytes.length. */
  readonly offsets: readonly number[];
  /** Where in `bytes` the two bytes of packet i's id are; the forwarder writes them. */
  readonly packetIdAt: readonly number[];
  /** The ids of the packets in order; the lengths of the ranges sum up to count. */
  readonly ids: readonly IdRange[];
}

/** Why a connection ended. */
export interface Close {
  readonly reason:
    | "stopped" // we asked for it
    | "peer_closed" // end of stream without a word
    | "network" // reset, unreachable, TLS alert
    | "ack_timeout" // our own: no PUBACK for too long
    | "keepalive" // our own: no PINGRESP
    | "takeover" // the peer said another client took the id
    | "protocol"; // the peer sent what it may not
  readonly error?: Error;
  /** The code of the `$SYS/tokenInvalidNotice` that the service sent before (lmq-protocol 4.6). */
  readonly notice?: number;
}

/** What the service sent us. */
export interface IncomingMessage {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: 0 | 1 | 2;
  readonly dup: boolean;
  /** Releases the acknowledgement (nothing for QoS 0); later calls do nothing. */
  accept(): void;
}

export function messageId(epoch: string, seq: number): MessageId {
  return `${epoch}-${seq}`;
}

/** Parts of a message id; undefined for anything else. */
export function parseMessageId(text: string): { epoch: string; seq: number } | undefined {
  const match = /^([0-9A-HJKMNP-TV-Z]{26})-([1-9][0-9]{0,15})$/.exec(text);
  const seq = Number(match?.[2]);
  return match && Number.isSafeInteger(seq) ? { epoch: match[1] as string, seq } : undefined;
}

/** Ranges from single ids, neighbours joined; the order of the ids is kept. */
export function toRanges(ids: Iterable<{ epoch: string; seq: number }>): IdRange[] {
  const ranges: { epoch: string; from: number; to: number }[] = [];
  let last: { epoch: string; from: number; to: number } | undefined;
  for (const { epoch, seq } of ids) {
    if (last && last.epoch === epoch && last.to + 1 === seq) last.to = seq;
    else {
      last = { epoch, from: seq, to: seq };
      ranges.push(last);
    }
  }
  return ranges;
}
