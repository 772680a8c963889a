import { assert } from "../core/assert.ts";
import { HoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";

/**
 * A packed record, format 1, big-endian. The seal around it is the store's.
 *
 *   u8      version
 *   u48     record number
 *   26 B    epoch of all its messages
 *   str     boot id
 *   f64     monotonic time of the first message, ms
 *   f64     wall time of the first message, ms
 *   u8      1 if the wall clock was trusted
 *   u8      number of messages, 1 to 32
 *   u32     bytes of all packets
 *   then for each message:
 *   u48 seq, u32 ms after the first, f64 lifetime in ms (0 none), str key, str producer id,
 *   u32 length, the PUBLISH packet with packet id 0
 *
 * A `str` is one byte of length and UTF-8.
 */
const VERSION = 1;
const EPOCH_CHARS = 26;
/** Everything before the messages but the text of the boot id. */
const HEAD_BYTES = 1 + 6 + EPOCH_CHARS + 1 + 8 + 8 + 1 + 1 + 4;

export interface RecordTime {
  readonly bootId: string;
  readonly monotonicMs: number;
  readonly wallMs: number;
  readonly trusted: boolean;
}

export interface RecordMessage {
  readonly seq: number;
  /** Milliseconds after the record's time. */
  readonly offsetMs: number;
  readonly ttlMs: number;
  readonly key: string;
  readonly producerId: string;
  readonly packet: Uint8Array;
}

export interface RecordHead {
  readonly number: number;
  readonly epoch: string;
  readonly time: RecordTime;
  readonly count: number;
  readonly packetBytes: number;
}

/** What a listing keeps of a record. */
export interface RecordSummary extends RecordHead {
  readonly firstSeq: number;
  readonly lastSeq: number;
  /** Those messages that have a producer's id. */
  readonly producers: readonly { readonly seq: number; readonly producerId: string }[];
}

export interface OutboxRecord extends RecordHead {
  readonly messages: readonly RecordMessage[];
}

export function encodeRecord(
  number: number,
  epoch: string,
  time: RecordTime,
  messages: readonly RecordMessage[],
): Uint8Array {
  assert(messages.length > 0 && messages.length <= limits.recordMessages, "a record's size");
  assert(epoch.length === EPOCH_CHARS, "an epoch is a ULID");
  const packetBytes = messages.reduce((sum, { packet }) => sum + packet.length, 0);
  const writer = new Writer(
    messages.reduce(
      (sum, m) => sum + 24 + 3 * (m.key.length + m.producerId.length),
      HEAD_BYTES + 3 * time.bootId.length,
    ) + packetBytes,
  );
  writer.u8(VERSION);
  writer.u48(number);
  writer.ascii(epoch);
  writer.text(time.bootId);
  writer.f64(time.monotonicMs);
  writer.f64(time.wallMs);
  writer.u8(time.trusted ? 1 : 0);
  writer.u8(messages.length);
  writer.u32(packetBytes);
  for (const message of messages) {
    writer.u48(message.seq);
    writer.u32(Math.max(0, Math.min(0xffff_ffff, Math.round(message.offsetMs))));
    writer.f64(message.ttlMs);
    writer.text(message.key);
    writer.text(message.producerId);
    writer.u32(message.packet.length);
    writer.bytes(message.packet);
  }
  return writer.done();
}

/** What a scan needs, without the packets. Throws `store_damaged`. */
export function decodeRecordSummary(bytes: Uint8Array): RecordSummary {
  const reader = new Reader(bytes);
  const head = readHead(reader);
  const producers: { seq: number; producerId: string }[] = [];
  let firstSeq = 0;
  let lastSeq = 0;
  for (let i = 0; i < head.count; i++) {
    lastSeq = reader.u48();
    if (i === 0) firstSeq = lastSeq;
    reader.skip(4 + 8);
    reader.skip(reader.u8());
    const producerId = reader.text();
    if (producerId !== "") producers.push({ seq: lastSeq, producerId });
    reader.skip(reader.u32());
  }
  return { ...head, firstSeq, lastSeq, producers };
}

/** Throws `store_damaged` for anything that `encodeRecord` did not make. */
export function decodeRecord(bytes: Uint8Array): OutboxRecord {
  const reader = new Reader(bytes);
  const head = readHead(reader);
  const messages: RecordMessage[] = [];
  for (let i = 0; i < head.count; i++) {
    messages.push({
      seq: reader.u48(),
      offsetMs: reader.u32(),
      ttlMs: reader.f64(),
      key: reader.text(),
      producerId: reader.text(),
      packet: reader.bytes(reader.u32()),
    });
  }
  const packetBytes = messages.reduce((sum, { packet }) => sum + packet.length, 0);
  if (!reader.atEnd || packetBytes !== head.packetBytes) throw damaged();
  return { ...head, messages };
}

function readHead(reader: Reader): RecordHead {
  const version = reader.u8();
  if (version !== VERSION) throw damaged();
  const number = reader.u48();
  const epoch = reader.ascii(EPOCH_CHARS);
  const time = {
    bootId: reader.text(),
    monotonicMs: reader.f64(),
    wallMs: reader.f64(),
    trusted: reader.u8() === 1,
  };
  const count = reader.u8();
  // The masks of a record have no more bits than this.
  if (count === 0 || count > limits.recordMessages) throw damaged();
  return { number, epoch, time, count, packetBytes: reader.u32() };
}

function damaged(): HoldfastError {
  return new HoldfastError("store_damaged", "A record of the outbox is not well-formed.");
}

class Writer {
  readonly #buffer: Buffer;
  #at = 0;

  constructor(capacity: number) {
    this.#buffer = Buffer.allocUnsafe(capacity);
  }

  u8(value: number): void {
    this.#at = this.#buffer.writeUInt8(value, this.#at);
  }

  u32(value: number): void {
    this.#at = this.#buffer.writeUInt32BE(value, this.#at);
  }

  u48(value: number): void {
    this.#at = this.#buffer.writeUIntBE(value, this.#at, 6);
  }

  f64(value: number): void {
    this.#at = this.#buffer.writeDoubleBE(value, this.#at);
  }

  ascii(value: string): void {
    this.#at += this.#buffer.write(value, this.#at, "latin1");
  }

  text(value: string): void {
    const length = Buffer.byteLength(value);
    assert(length <= 255, "a short text has at most 255 bytes");
    this.u8(length);
    this.#at += this.#buffer.write(value, this.#at, "utf8");
  }

  bytes(value: Uint8Array): void {
    this.#buffer.set(value, this.#at);
    this.#at += value.length;
  }

  done(): Uint8Array {
    return this.#buffer.subarray(0, this.#at);
  }
}

class Reader {
  readonly #buffer: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get atEnd(): boolean {
    return this.#at === this.#buffer.length;
  }

  u8(): number {
    return this.#buffer.readUInt8(this.#advance(1));
  }

  u32(): number {
    return this.#buffer.readUInt32BE(this.#advance(4));
  }

  u48(): number {
    return this.#buffer.readUIntBE(this.#advance(6), 6);
  }

  f64(): number {
    return this.#buffer.readDoubleBE(this.#advance(8));
  }

  ascii(length: number): string {
    const at = this.#advance(length);
    return this.#buffer.toString("latin1", at, at + length);
  }

  skip(length: number): void {
    this.#advance(length);
  }

  text(): string {
    const length = this.u8();
    if (length === 0) return "";
    const at = this.#advance(length);
    return this.#buffer.toString("utf8", at, at + length);
  }

  bytes(length: number): Uint8Array {
    const at = this.#advance(length);
    return this.#buffer.subarray(at, at + length);
  }

  #advance(length: number): number {
    const at = this.#at;
    if (at + length > this.#buffer.length) throw damaged();
    this.#at += length;
    return at;
  }
}
