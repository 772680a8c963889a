/** Messages as local producers give them (surface 4), turned into what the outbox takes. */
import { HoldfastError } from "../core/errors.ts";
import { isJsonObject, type JsonObject, parseJson } from "../core/json.ts";
import { limits } from "../core/limits.ts";
import type { OutgoingMessage } from "../core/message.ts";
import { isReservedTopic, reservedTopics } from "../core/reserved-topics.ts";

const DEFAULT_LANE = "telemetry";
const MAX_TTL_S = 10 * 365 * 86_400;
const MAX_KEY_CHARS = 256;
/** A payload as a JSON string can take six bytes for one (`\u0001`); the rest is for the others. */
const MAX_LINE_BYTES = limits.payloadBytes * 6 + 8_192;
const MAX_LINE_DEPTH = 64;

const queryKeys = ["topic", "lane", "ttl_s", "key", "id"];
const lineKeys = [...queryKeys, "payload", "payloadBase64"];

/** The fields that both forms have, still as they came. */
interface Fields {
  readonly topic: unknown;
  readonly lane: unknown;
  readonly ttlS: unknown;
  readonly key: unknown;
  readonly id: unknown;
}

/** `POST /v1/messages?topic=...` */
export function messageFromQuery(
  up: string,
  query: ReadonlyMap<string, string>,
  payload: Uint8Array,
): OutgoingMessage {
  refuseUnknown(query.keys(), queryKeys);
  const ttl = query.get("ttl_s");
  return toMessage(up, payload, {
    topic: query.get("topic"),
    lane: query.get("lane"),
    ttlS: ttl === undefined ? undefined : /^\d{1,12}(\.\d{1,6})?$/.test(ttl) ? Number(ttl) : ttl,
    key: query.get("key"),
    id: query.get("id"),
  });
}

/** One line of `POST /v1/messages:batch`. */
export function messageFromLine(up: string, line: Uint8Array): OutgoingMessage {
  const parsed = parseJson(line, { maxBytes: MAX_LINE_BYTES, maxDepth: MAX_LINE_DEPTH });
  if (!isJsonObject(parsed)) throw invalid("A line must be a JSON object.");
  refuseUnknown(Object.keys(parsed), lineKeys);
  return toMessage(up, payloadOf(parsed), {
    topic: parsed["topic"],
    lane: parsed["lane"],
    ttlS: parsed["ttl_s"],
    key: parsed["key"],
    id: parsed["id"],
  });
}

function toMessage(up: string, payload: Uint8Array, fields: Fields): OutgoingMessage {
  const { topic, lane = DEFAULT_LANE, ttlS, key, id } = fields;
  if (typeof topic !== "string" || topic === "") {
    throw new HoldfastError(
      "topic_invalid",
      "`topic` is missing: the part below the parent topic.",
    );
  }
  if (isReservedTopic(topic)) {
    const own = reservedTopics.join(", ");
    const message = `Below ${up}, ${own} are the agent's own: no program may speak there.`;
    throw new HoldfastError("topic_invalid", message);
  }
  if (typeof lane !== "string") throw invalid("`lane` must be a string.");
  if (payload.length > limits.payloadBytes) {
    throw new HoldfastError(
      "payload_too_large",
      `The payload has ${payload.length} bytes; the service takes ${limits.payloadBytes}.`,
    );
  }
  return {
    topic: `${up}/${topic}`,
    payload,
    lane,
    ...(ttlS !== undefined && { ttlMs: ttlMs(ttlS) }),
    ...(key !== undefined && { key: keyOf(key) }),
    ...(id !== undefined && { producerId: producerId(id) }),
  };
}

function payloadOf(line: JsonObject): Uint8Array {
  const { payload, payloadBase64 } = line;
  if ((payload === undefined) === (payloadBase64 === undefined)) {
    throw invalid("A line needs either `payload` or `payloadBase64`.");
  }
  if (payload !== undefined) {
    return Buffer.from(typeof payload === "string" ? payload : JSON.stringify(payload), "utf8");
  }
  // Node skips what is not base64; a payload that arrives changed is worse than a refusal.
  if (
    typeof payloadBase64 !== "string" ||
    payloadBase64.length % 4 !== 0 ||
    !/^[A-Za-z0-9+/]*={0,2}$/.test(payloadBase64)
  ) {
    throw invalid("`payloadBase64` must be padded base64 (RFC 4648 section 4).");
  }
  return Buffer.from(payloadBase64, "base64");
}

function ttlMs(value: unknown): number {
  if (typeof value === "number" && value >= 0 && value <= MAX_TTL_S) return value * 1000;
  throw invalid(`\`ttl_s\` must be a number of seconds from 0 (none) to ${MAX_TTL_S}.`);
}

function keyOf(value: unknown): string {
  if (typeof value === "string" && value !== "" && value.length <= MAX_KEY_CHARS) return value;
  throw invalid(`\`key\` must be a string of 1 to ${MAX_KEY_CHARS} characters.`);
}

function producerId(value: unknown): string {
  const fits = typeof value === "string" && /^[A-Za-z0-9._:-]+$/.test(value);
  if (fits && value.length <= limits.producerIdChars) return value;
  throw invalid(
    `\`id\` must be 1 to ${limits.producerIdChars} characters of A-Z a-z 0-9 . _ : and -.`,
  );
}

function refuseUnknown(names: Iterable<string>, known: readonly string[]): void {
  for (const name of names) {
    if (known.includes(name)) continue;
    throw invalid(`\`${name.slice(0, 64)}\` is not known here; known are ${known.join(", ")}.`);
  }
}

function invalid(message: string): HoldfastError {
  return new HoldfastError("message_invalid", message);
}
