import fc from "fast-check";
import { type IPublishPacket, type Packet, parser } from "mqtt-packet";
import { describe, expect, test } from "vitest";
import { AssertionFailure } from "../../../agent/core/assert.ts";
import {
  decodePublish,
  encodedPublishSize,
  encodePublish,
  markDuplicate,
  packetIdOffset,
  writePacketId,
} from "../../../agent/core/publish-packet.ts";

/** What another implementation of the protocol reads in these bytes. */
function parseAll(bytes: Uint8Array): IPublishPacket[] {
  const found: Packet[] = [];
  const mqtt = parser({ protocolVersion: 4 });
  mqtt.on("packet", (packet) => found.push(packet));
  mqtt.on("error", (error) => {
    throw error;
  });
  expect(mqtt.parse(Buffer.from(bytes))).toBe(0);
  return found.map((packet) => {
    if (packet.cmd !== "publish") throw new Error(`a ${packet.cmd} came out`);
    return packet;
  });
}

function check(topic: string, payload: Uint8Array, packetId: number): void {
  const { bytes, packetIdAt } = encodePublish(topic, payload);
  expect(bytes.length).toBe(encodedPublishSize(Buffer.byteLength(topic), payload.length));
  expect(packetIdOffset(bytes, 0)).toBe(packetIdAt);
  writePacketId(bytes, packetIdAt, packetId);

  const [packet] = parseAll(bytes);
  expect(packet).toMatchObject({ topic, qos: 1, dup: false, retain: false, messageId: packetId });
  expect(Buffer.compare(packet?.payload as Buffer, payload)).toBe(0);
  const decoded = decodePublish(bytes);
  expect(decoded.topic).toBe(topic);
  expect(Buffer.compare(decoded.payload, payload)).toBe(0);

  markDuplicate(bytes, 0);
  markDuplicate(bytes, 0);
  expect(parseAll(bytes)[0]).toMatchObject({ topic, qos: 1, dup: true, messageId: packetId });
}

const topics = fc.string({ unit: "grapheme", minLength: 1, maxLength: 64 });
const packetIds = fc.integer({ min: 1, max: 65_535 });

test("what we encode, mqtt-packet reads as the same message", () => {
  const sizes = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 70_000 }));
  fc.assert(
    fc.property(topics, sizes, packetIds, fc.nat(255), (topic, size, packetId, fill) => {
      check(topic, new Uint8Array(size).fill(fill), packetId);
    }),
    { numRuns: 300 },
  );
});

describe("the borders of the remaining length [MQTT-2.2.3]", () => {
  test.each([127, 128, 16_383, 16_384, 2_097_151, 2_097_152])("%i", (remaining) => {
    const topic = "up/a";
    check(topic, new Uint8Array(remaining - 4 - topic.length).fill(7), 1);
  });
});

test("packets that follow each other in one piece are found by their offsets", () => {
  const parts = ["a", "up/ü", "c/d"].map((topic, i) => ({
    topic,
    packet: encodePublish(topic, new Uint8Array(i * 130)).bytes,
  }));
  const bytes = Buffer.concat(parts.map(({ packet }) => packet));
  let at = 0;
  parts.forEach(({ packet }, i) => {
    writePacketId(bytes, packetIdOffset(bytes, at), 100 + i);
    at += packet.length;
  });
  expect(parseAll(bytes).map(({ topic, messageId }) => [topic, messageId])).toEqual([
    ["a", 100],
    ["up/ü", 101],
    ["c/d", 102],
  ]);
});

test("packet ids that the protocol forbids are a broken assumption", () => {
  const { bytes, packetIdAt } = encodePublish("a", new Uint8Array(0));
  for (const id of [0, -1, 65_536]) {
    expect(() => writePacketId(bytes, packetIdAt, id)).toThrow(AssertionFailure);
  }
  expect(() => encodePublish("x".repeat(65_536), new Uint8Array(0))).toThrow(AssertionFailure);
});
