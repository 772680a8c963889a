/**
 * Packets of MQTT 3.1.1, from bytes and to bytes, strict in both directions: what the standard
 * tells a server to hang up on is `protocol_error`, from every function here.
 *
 * By hand and not by mqtt-packet. That is lenient where a service must not be (ill-formed UTF-8,
 * packet id 0, bytes behind the end of a packet), so each packet had to be written again to be
 * compared; and it keeps a pooled buffer for each length it ever wrote, so that strangers with a
 * CONNECT of every length could pin 64 KB for each.
 */
import { isUtf8 } from "node:buffer";
import type { Qos } from "../storage/storage.ts";
import { Fields, malformed } from "./fields.ts";
import type { Frame } from "./framer.ts";

export interface PublishPacket {
  readonly kind: "publish";
  readonly topic: string;
  /** A view of what was received: copy it before keeping it. */
  readonly payload: Buffer;
  readonly qos: Qos;
  readonly dup: boolean;
  /** 0 for QoS 0. */
  readonly packetId: number;
}

export type AckKind = "puback" | "pubrec" | "pubrel" | "pubcomp";

export interface ConnectPacket {
  readonly kind: "connect";
  readonly clientId: string;
  readonly clean: boolean;
  /** Seconds; 0 is none. */
  readonly keepAliveS: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
}

export type ClientPacket =
  | ConnectPacket
  | PublishPacket
  | { readonly kind: AckKind; readonly packetId: number }
  | {
      readonly kind: "subscribe";
      readonly packetId: number;
      readonly subscriptions: readonly { readonly filter: string; readonly qos: Qos }[];
    }
  | { readonly kind: "unsubscribe"; readonly packetId: number; readonly filters: readonly string[] }
  | { readonly kind: "pingreq" }
  | { readonly kind: "disconnect" };

const DUP = 0x08;
/** Flags of a CONNECT, section 3.1.2.3. */
const CLEAN = 0x02;
const WILL = 0x04;
const WILL_QOS = 0x18;
const WILL_RETAIN = 0x20;
const PASSWORD = 0x40;
const USERNAME = 0x80;
const PINGRESP = Buffer.from([0xd0, 0x00]);
/** First byte of each acknowledgement; PUBREL has a flag of its own [MQTT-3.6.1-1]. */
const ACK_FIRST = { puback: 0x40, pubrec: 0x50, pubrel: 0x62, pubcomp: 0x70 } as const;
const ACK_KIND = new Map<number, AckKind>(
  Object.entries(ACK_FIRST).map(([kind, first]) => [first, kind as AckKind]),
);

export function readPacket(frame: Frame): ClientPacket {
  const { first, body } = frame;
  if (first >> 4 === 3) return readPublish(first, body);
  const ack = ACK_KIND.get(first);
  if (ack) return { kind: ack, packetId: readAckId(body) };
  switch (first) {
    case 0x10:
      return readConnect(frame);
    case 0x82:
      return readSubscribe(frame);
    case 0xa2:
      return readUnsubscribe(frame);
    case 0xc0:
    case 0xe0:
      if (body.length > 0) throw malformed("A packet without a body has one.");
      return { kind: first === 0xc0 ? "pingreq" : "disconnect" };
    default:
      // [MQTT-2.2.2-2], and packets that only a server sends.
      throw malformed("The first byte of a packet is none that a client may send.");
  }
}

/**
 * The protocol level of a CONNECT, read before anything else in it [MQTT-3.1.2-2]: undefined when
 * the packet does not even name the protocol. 3 is MQTT 3.1, whose clients the vendor took too.
 */
export function connectLevel(frame: Frame): number | undefined {
  const { first, body } = frame;
  if (first !== 0x10 || body.length < 2) return undefined;
  const name = body.toString("latin1", 2, 2 + body.readUInt16BE(0));
  const level = body[2 + name.length];
  if (name === "MQTT") return level === 3 ? 0 : level;
  if (name === "MQIsdp") return level === 3 ? 3 : 0;
  return undefined;
}

export function writeConnack(returnCode: number, sessionPresent: boolean): Buffer {
  return Buffer.from([0x20, 2, sessionPresent ? 1 : 0, returnCode]);
}

export function writeSuback(packetId: number, granted: readonly number[]): Buffer {
  const head = [0x90, ...lengthOf(2 + granted.length), packetId >>> 8, packetId & 0xff];
  return Buffer.concat([Buffer.from(head), Uint8Array.from(granted)]);
}

export function writeUnsuback(packetId: number): Buffer {
  return Buffer.from([0xb0, 2, packetId >>> 8, packetId & 0xff]);
}

export function writeAck(kind: AckKind, packetId: number): Buffer {
  return Buffer.from([ACK_FIRST[kind], 2, packetId >>> 8, packetId & 0xff]);
}

export function writePingresp(): Buffer {
  return PINGRESP;
}

/** Never with RETAIN: nothing is retained (lmq-protocol 1.4). `packetId` is left out at QoS 0. */
export function writePublish(packet: {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: Qos;
  readonly dup: boolean;
  readonly packetId: number;
}): Buffer {
  const { topic, payload, qos, dup, packetId } = packet;
  const topicBytes = Buffer.byteLength(topic);
  const idBytes = qos > 0 ? 2 : 0;
  const length = lengthOf(2 + topicBytes + idBytes + payload.length);
  const bytes = Buffer.allocUnsafe(1 + length.length + 2 + topicBytes + idBytes + payload.length);
  bytes[0] = 0x30 | (dup ? DUP : 0) | (qos << 1);
  let at = 1;
  for (const byte of length) bytes[at++] = byte;
  at = bytes.writeUInt16BE(topicBytes, at);
  at += bytes.write(topic, at);
  if (qos > 0) at = bytes.writeUInt16BE(packetId, at);
  bytes.set(payload, at);
  return bytes;
}

function readPublish(first: number, body: Buffer): PublishPacket {
  const qos = (first >> 1) & 3;
  if (qos === 3) throw malformed("A PUBLISH has QoS 3."); // [MQTT-3.3.1-4]
  const dup = (first & DUP) !== 0;
  if (dup && qos === 0) throw malformed("A PUBLISH of QoS 0 is marked as sent before."); // [MQTT-3.3.1-2]
  if (body.length < 2) throw malformed("A PUBLISH ends before its topic.");
  const topicEnd = 2 + body.readUInt16BE(0);
  const payloadAt = topicEnd + (qos > 0 ? 2 : 0);
  if (body.length < payloadAt) throw malformed("A PUBLISH ends before its payload.");
  const topicBytes = body.subarray(2, topicEnd);
  if (!isUtf8(topicBytes)) throw malformed("A topic is not UTF-8."); // [MQTT-1.5.3-1]
  const packetId = qos > 0 ? body.readUInt16BE(topicEnd) : 0;
  if (qos > 0 && packetId === 0) throw malformed("A PUBLISH has packet id 0."); // [MQTT-2.3.1-1]
  return {
    kind: "publish",
    topic: topicBytes.toString("utf8"),
    payload: body.subarray(payloadAt),
    qos: qos as Qos,
    dup,
    packetId,
  };
}

function readAckId(body: Buffer): number {
  if (body.length !== 2) throw malformed("An acknowledgement is not two bytes long.");
  const packetId = body.readUInt16BE(0);
  if (packetId === 0) throw malformed("An acknowledgement has packet id 0.");
  return packetId;
}

/** [MQTT-3.1.3-1]: the order of the fields; each is there exactly if its flag says so. */
function readConnect({ body }: Frame): ConnectPacket {
  const fields = new Fields(body);
  fields.bytes(); // The name and the level of the protocol, as `connectLevel` found them.
  fields.byte();
  const flags = fields.byte();
  checkFlags(flags);
  const keepAliveS = fields.uint16();
  const clientId = fields.text();
  if (flags & WILL) {
    if (fields.text() === "") throw malformed("A will has no topic.");
    fields.bytes();
  }
  const username = flags & USERNAME ? fields.text() : undefined;
  const password = flags & PASSWORD ? fields.bytes().toString("utf8") : undefined;
  fields.end();
  return {
    kind: "connect",
    clientId,
    clean: (flags & CLEAN) !== 0,
    keepAliveS,
    username,
    password,
  };
}

function checkFlags(flags: number): void {
  if (flags & 1) throw malformed("A CONNECT has the reserved flag."); // [MQTT-3.1.2-3]
  const willQos = (flags & WILL_QOS) >> 3;
  if (willQos === 3) throw malformed("A will has QoS 3."); // [MQTT-3.1.2-14]
  if (!(flags & WILL) && (willQos > 0 || flags & WILL_RETAIN)) {
    throw malformed("A CONNECT without a will has flags of one."); // [MQTT-3.1.2-13], [MQTT-3.1.2-15]
  }
  if (flags & PASSWORD && !(flags & USERNAME)) {
    throw malformed("A CONNECT has a password and no user name."); // [MQTT-3.1.2-22]
  }
}

function readSubscribe({ body }: Frame): ClientPacket {
  const fields = new Fields(body);
  const packetId = demandId(fields.uint16());
  const subscriptions: { readonly filter: string; readonly qos: Qos }[] = [];
  do {
    const filter = fields.text(); // At least one [MQTT-3.8.3-3].
    const qos = fields.byte();
    if (qos > 2) throw malformed("A subscription asks for no QoS that there is."); // [MQTT-3.8.3-4]
    subscriptions.push({ filter, qos: qos as Qos });
  } while (!fields.isAtEnd);
  return { kind: "subscribe", packetId, subscriptions };
}

function readUnsubscribe({ body }: Frame): ClientPacket {
  const fields = new Fields(body);
  const packetId = demandId(fields.uint16());
  const filters: string[] = [];
  do
    filters.push(fields.text()); // At least one [MQTT-3.10.3-2].
  while (!fields.isAtEnd);
  return { kind: "unsubscribe", packetId, filters };
}

function demandId(packetId: number): number {
  if (packetId === 0) throw malformed("A packet has packet id 0."); // [MQTT-2.3.1-1]
  return packetId;
}

/** The remaining length as MQTT writes it, section 2.2.3. */
function lengthOf(bytes: number): number[] {
  const length: number[] = [];
  let rest = bytes;
  do {
    length.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return length;
}
