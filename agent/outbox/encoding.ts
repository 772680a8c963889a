import { HoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";
import type { MessageId, OutgoingMessage } from "../core/message.ts";
import { encodePublish } from "../core/publish-packet.ts";
import { cloudEventSource, encodeCloudEvent } from "./cloudevents.ts";
import type { Lane } from "./lane.ts";

/** What a message's packet depends on besides the message. */
export interface Encoding {
  readonly id: MessageId;
  readonly clientId: string;
  /** Undefined while the wall clock is not trusted. */
  readonly timeMs: number | undefined;
  /** Throws `topic_invalid` or `topic_too_long`. */
  readonly checkTopic: (topic: string) => void;
}

/**
 * The PUBLISH packet of a message, as it stays in memory, on disk and on the wire. Throws what
 * `checkTopic` throws, `payload_too_large`, `message_invalid`.
 */
export function encodeMessage(lane: Lane, message: OutgoingMessage, how: Encoding): Uint8Array {
  how.checkTopic(message.topic);
  const payload = envelope(lane, message, how);
  if (payload.length > limits.payloadBytes) {
    const text = `The payload has ${payload.length} bytes; the service takes ${limits.payloadBytes}.`;
    throw new HoldfastError("payload_too_large", text, { details: { bytes: payload.length } });
  }
  for (const text of [message.key ?? "", message.producerId ?? ""]) {
    if (Buffer.byteLength(text) > 255) {
      throw new HoldfastError("message_invalid", "A key or producer id has at most 255 bytes.");
    }
  }
  return encodePublish(message.topic, payload).bytes;
}

function envelope(
  { name, options }: Lane,
  { topic, payload }: OutgoingMessage,
  { id, clientId, timeMs }: Encoding,
): Uint8Array {
  if (options.payload !== "cloudevents") return payload;
  return encodeCloudEvent({
    ...{ id, source: cloudEventSource(clientId), type: `holdfast.${name}` },
    ...{ subject: topic, timeMs, payload },
  });
}
