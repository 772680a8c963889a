import { assert } from "./assert.ts";

/**
 * The bounds that hold everywhere, with their units, in one place; what an operator may change is
 * in the configuration instead. Their relations are asserted once, when this file is loaded.
 */
export const limits = {
  /** lmq-protocol 1.3: a payload over this makes the service close the connection. */
  payloadBytes: 65_536,
  /** Before signing: with base64, header and signature it must still fit a payload. */
  commandPayloadBytes: 48_640,
  /** A JWS's header and signature in base64url, with the dots. */
  jwsOverheadChars: 512,
  commandJsonDepth: 32,
  commandIdChars: 64,
  producerIdChars: 64,
  /** lmq-protocol 1.1 and 1.2. */
  clientIdChars: 64,
  topicChars: 128,
  topicWarnChars: 64,
  /** lmq-protocol 1.3. */
  subscriptions: 30,

  /** Packet ids 1 to this belong to the forwarder, the others to mqtt.js. */
  forwarderPacketIds: 60_000,
  /** The largest `outbox.window` that a configuration may ask for. */
  windowMessages: 16_384,
  /** Bytes that one batch may hold on its way to the socket. */
  batchBytes: 262_144,

  /** Room reserved for the final reply of an admitted command. */
  replyReservationBytes: 4_096,
  healthReportBytes: 2_048,

  /** Messages in one packed record. */
  recordMessages: 32,
  /** A record is closed at this size, so that one damaged sector costs little. */
  recordBytes: 32_768,

  localApiBatchLines: 10_000,
  localApiBatchBytes: 8_388_608,
} as const;

assert(limits.windowMessages < limits.forwarderPacketIds, "a window never reuses a live packet id");
assert(limits.forwarderPacketIds < 65_535, "mqtt.js keeps some packet ids");
assert(
  Math.ceil((limits.commandPayloadBytes * 4) / 3) + limits.jwsOverheadChars <= limits.payloadBytes,
  "a signed command fits a payload",
);
assert(limits.replyReservationBytes < limits.payloadBytes, "a reserved reply fits a payload");
assert(limits.topicWarnChars < limits.topicChars, "a warning comes before a refusal");
