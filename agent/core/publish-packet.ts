import { assert } from "./assert.ts";

/**
 * Encoding of a QoS 1 PUBLISH of MQTT 3.1.1, our one hot packet: it is encoded once, kept in this
 * form on disk and in memory, and only its two bytes of packet id are written at each send. Every
 * other packet is left to the libraries.
 */
const PUBLISH_QOS1 = 0x32; // [MQTT-2.2.1], [MQTT-2.2.2]: type 3, QoS 1, no DUP, no RETAIN
const DUP = 0x08; // [MQTT-3.3.1-1]
const encoder = new TextEncoder();
const decoder = new TextDecoder();

export interface EncodedPublish {
  readonly bytes: Uint8Array;
  /** Where the packet id is to be written, big-endian. */
  readonly packetIdAt: number;
}

/** Size in bytes of the packet that `encodePublish` makes. */
export function encodedPublishSize(topicBytes: number, payloadBytes: number): number {
  const remaining = 2 + topicBytes + 2 + payloadBytes;
  return 1 + lengthBytes(remaining) + remaining;
}

export function encodePublish(topic: string, payload: Uint8Array): EncodedPublish {
  const topicBytes = encoder.encode(topic);
  assert(topicBytes.length <= 0xffff, "a topic fits its two bytes of length");
  const bytes = new Uint8Array(encodedPublishSize(topicBytes.length, payload.length));
  bytes[0] = PUBLISH_QOS1;
  let at = 1;
  let rest = 2 + topicBytes.length + 2 + payload.length;
  do {
    bytes[at++] = (rest & 0x7f) | (rest > 0x7f ? 0x80 : 0);
    rest >>>= 7;
  } while (rest > 0);
  bytes[at++] = topicBytes.length >>> 8;
  bytes[at++] = topicBytes.length & 0xff;
  bytes.set(topicBytes, at);
  at += topicBytes.length;
  bytes.set(payload, at + 2);
  return { bytes, packetIdAt: at };
}

/** Where the packet id of the encoded PUBLISH at `start` is. */
export function packetIdOffset(bytes: Uint8Array, start: number): number {
  let at = start + 1;
  while (((bytes[at++] as number) & 0x80) !== 0);
  return at + 2 + (((bytes[at] as number) << 8) | (bytes[at + 1] as number));
}

/** Topic and payload of an encoded PUBLISH, for lists and quarantine; never on the hot path. */
export function decodePublish(packet: Uint8Array): { topic: string; payload: Uint8Array } {
  const payload = packet.subarray(packetIdOffset(packet, 0) + 2);
  return { topic: publishTopic(packet), payload };
}

export function publishTopic(packet: Uint8Array): string {
  const idAt = packetIdOffset(packet, 0);
  let at = 1;
  while (((packet[at++] as number) & 0x80) !== 0);
  return decoder.decode(packet.subarray(at + 2, idAt));
}

export function writePacketId(bytes: Uint8Array, at: number, packetId: number): void {
  assert(packetId >= 1 && packetId <= 0xffff, "a packet id is 1 to 65535"); // [MQTT-2.3.1-1]
  bytes[at] = packetId >>> 8;
  bytes[at + 1] = packetId & 0xff;
}

/** Marks the packet at `start` as sent before [MQTT-3.3.1-1]. */
export function markDuplicate(bytes: Uint8Array, start: number): void {
  bytes[start] = (bytes[start] as number) | DUP;
}

function lengthBytes(remaining: number): number {
  return remaining < 128 ? 1 : remaining < 16_384 ? 2 : remaining < 2_097_152 ? 3 : 4;
}
