import { assert } from "../core/assert.ts";
import { HoldfastError } from "../core/errors.ts";
import { isJsonObject, type JsonObject } from "../core/json.ts";
import type { Codec } from "../store/store.ts";
import type { RecordTime } from "./record.ts";

/**
 * What is in the table `quarantine`, format 1. Key `c<case number>`: a case, as JSON. Key
 * `m<place>`: a message: u16 length of the head, the head as JSON, the PUBLISH packet with packet
 * id 0. Numbers are 12 hexadecimal digits, so that keys sort as they do. The seal is the store's.
 */
export interface CaseRecord {
  readonly v: 1;
  /** topic: all of it. message: this one, others of its topic go through. */
  readonly scope: "topic" | "message";
  readonly topic: string;
  readonly reason: string;
  /** Tries that failed since it was found guilty. */
  readonly tries: number;
  readonly triedAt: RecordTime;
  /** A try went through: what is left goes out. */
  readonly releasing: boolean;
}

export interface MessageHead {
  readonly v: 1;
  readonly caseNumber: number;
  readonly epoch: string;
  readonly seq: number;
  readonly lane: string;
  readonly key: string;
  readonly producerId: string;
  readonly acceptedAt: RecordTime;
  readonly parkedAt: RecordTime;
}

export interface MessageRecord {
  readonly head: MessageHead;
  readonly packet: Uint8Array;
}

export type QuarantineRecord = CaseRecord | MessageRecord;

export const quarantineCodec: Codec<QuarantineRecord> = {
  encode: (record) => ("packet" in record ? encodeMessage(record) : json(record)),
  // A case is an object, which begins with "{"; the head of a message is far shorter than 0x7b00.
  decode: (bytes) => (bytes[0] === 0x7b ? decodeCase(bytes) : decodeMessage(bytes)),
};

function encodeMessage({ head, packet }: MessageRecord): Uint8Array {
  const text = json(head);
  assert(text.length < 0x7b00, "the head of a message is short");
  const bytes = new Uint8Array(2 + text.length + packet.length);
  bytes[0] = text.length >>> 8;
  bytes[1] = text.length & 0xff;
  bytes.set(text, 2);
  bytes.set(packet, 2 + text.length);
  return bytes;
}

function decodeMessage(bytes: Uint8Array): MessageRecord {
  const length = ((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0);
  if (bytes.length < 2 + length + 2) throw damaged();
  const head = parse(bytes.subarray(2, 2 + length)) as unknown as MessageHead;
  return { head, packet: bytes.slice(2 + length) };
}

function decodeCase(bytes: Uint8Array): CaseRecord {
  return parse(bytes) as unknown as CaseRecord;
}

/** The seal has vouched for the bytes; what is left is another format than ours. */
function parse(bytes: Uint8Array): JsonObject {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString());
    if (isJsonObject(value) && value["v"] === 1) return value;
  } catch {
    // As below.
  }
  throw damaged();
}

function json(value: CaseRecord | MessageHead): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

function damaged(): HoldfastError {
  return new HoldfastError("store_damaged", "A record of the quarantine is not well-formed.");
}
