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
 *   u8      which of the following five are given; what is not given is as in brackets
 *   u48     seq [one more than that of the message before]
 *   u32     ms after the first message [as the message before; the first: 0]
 *   f64     lifetime in ms, 0 none [as the message before; the first: 0]
 *   str     key [none]
 *   str     producer id [none]
 *   len     length of the packet
 *           the PUBLISH packet with packet id 0
 *
 * A `str` is one byte of length and UTF-8; a `len` is 7 bits a byte, the lowest first, with the top
 * bit set on all but the last. Neighbours mostly differ in nothing: then a message costs 3 bytes
 * besides its packet, all of which are written twice in its life.
 */
const GIVEN = { seq: 1, offset: 2, ttl: 4, key: 8, producer: 16 } as const;
const ALL_GIVEN = 31;
/** Flags, seq, offset, lifetime, two lengths of text, the length of the packet. */
const MESSAGE_HEAD_BYTES = 1 + 6 + 4 + 8 + 1 + 1 + 5;
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

/**
 * A record whose messages differ in nothing but their packets and moments: consecutive, one
 * lifetime, no keys, no producers' ids.
 */
export interface PlainRecord extends RecordHead {
  readonly bytes: Buffer;
  readonly firstSeq: number;
  readonly ttlMs: number;
  /** Of each message, as `RecordMessage.offsetMs`. */
  readonly offsetsMs: readonly number[];
  /** Where in `bytes` the packet of each begins and ends. */
  readonly packetStarts: readonly number[];
  readonly packetEnds: readonly number[];
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
      (sum, m) => sum + MESSAGE_HEAD_BYTES + 3 * (m.key.length + m.producerId.length),
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
  let before: MessageHead = FIRST;
  for (const message of messages) {
    const offsetMs = Math.max(0, Math.min(0xffff_ffff, Math.round(message.offsetMs)));
    const head = { ...message, offsetMs };
    writeMessageHead(writer, head, before);
    writer.length(message.packet.length);
    writer.bytes(message.packet);
    before = head;
  }
  return writer.done();
}

/** What a scan needs, without the packets. Throws `store_damaged`. */
export function decodeRecordSummary(bytes: Uint8Array): RecordSummary {
  const reader = new Reader(bytes);
  const head = readHead(reader);
  const producers: { seq: number; producerId: string }[] = [];
  let firstSeq = 0;
  let before: MessageHead = FIRST;
  for (let i = 0; i < head.count; i++) {
    before = readMessageHead(reader, before);
    const { seq, producerId } = before;
    if (i === 0) firstSeq = seq;
    if (producerId !== "") producers.push({ seq, producerId });
    reader.skip(reader.length());
  }
  return { ...head, firstSeq, lastSeq: before.seq, producers };
}

/** Throws `store_damaged` for anything that `encodeRecord` did not make. */
export function decodeRecord(bytes: Uint8Array): OutboxRecord {
  const reader = new Reader(bytes);
  const head = readHead(reader);
  const messages: RecordMessage[] = [];
  let before: MessageHead = FIRST;
  for (let i = 0; i < head.count; i++) {
    before = readMessageHead(reader, before);
    const { seq, offsetMs, ttlMs, key, producerId } = before;
    const packet = reader.bytes(reader.length());
    messages.push({ seq, offsetMs, ttlMs, key, producerId, packet });
  }
  const packetBytes = messages.reduce((sum, { packet }) => sum + packet.length, 0);
  if (!reader.atEnd || packetBytes !== head.packetBytes) throw damaged();
  return { ...head, messages };
}

/**
 * As `decodeRecord`, without an object for each message; undefined for a record that is not a plain
 * one. Throws `store_damaged`.
 */
export function decodePlainRecord(bytes: Uint8Array): PlainRecord | undefined {
  const reader = new Reader(bytes);
  const head = readHead(reader);
  const offsetsMs: number[] = [];
  const packetStarts: number[] = [];
  const packetEnds: number[] = [];
  const first = readMessageHead(reader, FIRST);
  if (first.key !== "" || first.producerId !== "") return undefined;
  let { offsetMs } = first;
  let packetBytes = 0;
  for (let i = 0; i < head.count; i++) {
    if (i > 0) {
      const given = reader.u8();
      if ((given & ~GIVEN.offset) !== 0) return undefined;
      if (given !== 0) offsetMs = reader.u32();
    }
    const length = reader.length();
    const start = reader.at;
    reader.skip(length);
    offsetsMs.push(offsetMs);
    packetStarts.push(start);
    packetEnds.push(start + length);
    packetBytes += length;
  }
  if (!reader.atEnd || packetBytes !== head.packetBytes) throw damaged();
  const { seq: firstSeq, ttlMs } = first;
  return { ...head, bytes: reader.buffer, firstSeq, ttlMs, offsetsMs, packetStarts, packetEnds };
}

type MessageHead = Omit<RecordMessage, "packet">;

const FIRST: MessageHead = { seq: 0, offsetMs: 0, ttlMs: 0, key: "", producerId: "" };

function writeMessageHead(writer: Writer, message: MessageHead, before: MessageHead): void {
  const { seq, offsetMs, ttlMs, key, producerId } = message;
  const given =
    (seq === before.seq + 1 ? 0 : GIVEN.seq) |
    (offsetMs === before.offsetMs ? 0 : GIVEN.offset) |
    (Object.is(ttlMs, before.ttlMs) ? 0 : GIVEN.ttl) |
    (key === "" ? 0 : GIVEN.key) |
    (producerId === "" ? 0 : GIVEN.producer);
  writer.u8(given);
  if (given & GIVEN.seq) writer.u48(seq);
  if (given & GIVEN.offset) writer.u32(offsetMs);
  if (given & GIVEN.ttl) writer.f64(ttlMs);
  if (given & GIVEN.key) writer.text(key);
  if (given & GIVEN.producer) writer.text(producerId);
}

function readMessageHead(reader: Reader, before: MessageHead): MessageHead {
  const given = reader.u8();
  if (given > ALL_GIVEN) throw damaged();
  return {
    seq: given & GIVEN.seq ? reader.u48() : before.seq + 1,
    offsetMs: given & GIVEN.offset ? reader.u32() : before.offsetMs,
    ttlMs: given & GIVEN.ttl ? reader.f64() : before.ttlMs,
    key: given & GIVEN.key ? reader.text() : "",
    producerId: given & GIVEN.producer ? reader.text() : "",
  };
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

  length(value: number): void {
    let rest = value;
    for (; rest > 0x7f; rest >>>= 7) this.u8((rest & 0x7f) | 0x80);
    this.u8(rest);
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
  readonly buffer: Buffer;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get atEnd(): boolean {
    return this.at === this.buffer.length;
  }

  u8(): number {
    return this.buffer.readUInt8(this.#advance(1));
  }

  u32(): number {
    return this.buffer.readUInt32BE(this.#advance(4));
  }

  u48(): number {
    return this.buffer.readUIntBE(this.#advance(6), 6);
  }

  f64(): number {
    return this.buffer.readDoubleBE(this.#advance(8));
  }

  ascii(length: number): string {
    const at = this.#advance(length);
    return this.buffer.toString("latin1", at, at + length);
  }

  skip(length: number): void {
    this.#advance(length);
  }

  text(): string {
    const length = this.u8();
    if (length === 0) return "";
    const at = this.#advance(length);
    return this.buffer.toString("utf8", at, at + length);
  }

  /** Of a packet: at most 28 bits. */
  length(): number {
    let length = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.u8();
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) return length;
    }
    throw damaged();
  }

  bytes(length: number): Uint8Array {
    const at = this.#advance(length);
    return this.buffer.subarray(at, at + length);
  }

  #advance(length: number): number {
    const at = this.at;
    if (at + length > this.buffer.length) throw damaged();
    this.at += length;
    return at;
  }
}
