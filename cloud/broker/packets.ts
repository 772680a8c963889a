/**
 * Packets of MQTT 3.1.1, from bytes and to bytes, strict in both directions.
 *
 * PUBLISH and the four acknowledgements, of which there are thousands a second, are read and
 * written here by hand; mqtt-packet reads and writes the rest. It is lenient where a service must
 * not be (ill-formed UTF-8, packet id 0, bytes behind the end of a packet), so a packet that it
 * read counts only when writing it again gives the very same bytes.
 *
 * Every function throws `protocol_error` for what the standard tells a server to hang up on.
 */
import { isUtf8 } from "node:buffer";
import {
  generate,
  type IConnectPacket,
  type ISubscribePacket,
  type IUnsubscribePacket,
  type Packet,
  parser,
} from "mqtt-packet";
import { HoldfastError } from "../../agent/core/errors.ts";
import type { Qos } from "../storage/storage.ts";
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
  return generate({ cmd: "connack", returnCode, sessionPresent });
}

export function writeSuback(packetId: number, granted: readonly number[]): Buffer {
  return generate({ cmd: "suback", messageId: packetId, granted: [...granted] });
}

export function writeUnsuback(packetId: number): Buffer {
  return generate({ cmd: "unsuback", messageId: packetId, granted: [] });
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
  let rest = 2 + topicBytes + idBytes + payload.length;
  const lengthBytes = rest < 128 ? 1 : rest < 16_384 ? 2 : rest < 2_097_152 ? 3 : 4;
  const bytes = Buffer.allocUnsafe(1 + lengthBytes + rest);
  bytes[0] = 0x30 | (dup ? DUP : 0) | (qos << 1);
  let at = 1;
  do {
    bytes[at++] = (rest & 0x7f) | (rest > 0x7f ? 0x80 : 0);
    rest >>>= 7;
  } while (rest > 0);
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

function readConnect(frame: Frame): ConnectPacket {
  const packet = parse(frame) as IConnectPacket;
  // An empty id without a clean session cannot be written again; it is refused in any case.
  if (packet.clientId !== "") demandSame(packet, frame);
  if ((packet.will?.qos ?? 0) > 2) throw malformed("A will has QoS 3."); // [MQTT-3.1.2-14]
  return {
    kind: "connect",
    clientId: packet.clientId,
    clean: packet.clean ?? true,
    keepAliveS: packet.keepalive ?? 0,
    username: packet.username,
    password: packet.password?.toString("utf8"),
  };
}

function readSubscribe(frame: Frame): ClientPacket {
  const packet = parse(frame) as ISubscribePacket;
  demandSame(packet, frame);
  return {
    kind: "subscribe",
    packetId: demandId(packet),
    subscriptions: packet.subscriptions.map(({ topic, qos }) => ({ filter: topic, qos })),
  };
}

function readUnsubscribe(frame: Frame): ClientPacket {
  const packet = parse(frame) as IUnsubscribePacket;
  demandSame(packet, frame);
  return { kind: "unsubscribe", packetId: demandId(packet), filters: packet.unsubscriptions };
}

/** One frame, one parser: no state is left for the next packet. */
function parse({ first, body }: Frame): Packet {
  let packet: Packet | undefined;
  let error: unknown;
  const reader = parser({ protocolVersion: 4 });
  reader.on("packet", (read) => {
    packet = read;
  });
  reader.on("error", (cause: unknown) => {
    error = cause;
  });
  try {
    reader.parse(Buffer.concat([header(first, body.length), body]));
  } catch (cause) {
    error = cause;
  }
  if (error !== undefined || !packet) throw malformed("A packet cannot be read.", error);
  return packet;
}

function demandSame(packet: Packet, { first, body }: Frame): void {
  let again: Buffer;
  try {
    again = generate(packet);
  } catch (cause) {
    throw malformed("A packet holds what MQTT does not allow.", cause);
  }
  const head = header(first, body.length);
  if (!again.subarray(head.length).equals(body)) throw malformed("A packet is not well-formed.");
}

function demandId({ messageId }: { readonly messageId?: number }): number {
  if (!messageId) throw malformed("A packet has packet id 0."); // [MQTT-2.3.1-1]
  return messageId;
}

function header(first: number, bodyBytes: number): Buffer {
  const bytes = [first];
  let rest = bodyBytes;
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return Buffer.from(bytes);
}

function malformed(message: string, cause?: unknown): HoldfastError {
  return new HoldfastError("protocol_error", message, { details: { reason: "malformed" }, cause });
}
