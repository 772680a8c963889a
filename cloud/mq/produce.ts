/**
 * What the properties of a produced message mean for the MQTT side: lmq-protocol 8. Their names are
 * compared without case, because HTTP clients send header names as they like.
 */
import type { IncomingHttpHeaders } from "node:http";
import { HoldfastError } from "../../agent/core/errors.ts";
import { checkPublishTopic } from "../../agent/protocol/topics.ts";

export interface OutgoingMessage {
  readonly topic: string;
  /** What the receiver sees instead (`mqttRealTopic`). */
  readonly shownTopic: string | undefined;
  readonly payload: Uint8Array;
  readonly qos: 0 | 1 | 2;
  /** P2P waits for a target that is offline. */
  readonly keep: boolean;
}

const PREFIX = "x-mq-property-";
const MAX_PROPERTIES = 32;
const MAX_VALUE = 1_024;
/** The names with a meaning, as consumers read them. */
const KNOWN = new Map(
  ["mqttSecondTopic", "mqttRealTopic", "qoslevel", "cleansessionflag"].map((name) => [
    name.toLowerCase(),
    name,
  ]),
);

/**
 * The properties among the headers. Values are UTF-8, which HTTP carries as single bytes. Throws
 * `request_invalid` for too many or too long ones, and for those that only the service sets.
 */
export function readProperties(headers: IncomingHttpHeaders): Readonly<Record<string, string>> {
  const properties: Record<string, string> = Object.create(null) as Record<string, string>;
  let count = 0;
  for (const [header, raw] of Object.entries(headers)) {
    if (!header.startsWith(PREFIX) || typeof raw !== "string") continue;
    const given = header.slice(PREFIX.length);
    if (given === "clientid") throw invalid("The property clientId is the service's to set.");
    if (given === "" || ++count > MAX_PROPERTIES) {
      throw invalid(`A message has at most ${MAX_PROPERTIES} properties, each with a name.`);
    }
    properties[KNOWN.get(given) ?? given] = readValue(raw, given);
  }
  return { ...properties };
}

/**
 * What a produced message is on the MQTT side. Throws `request_invalid`, `topic_invalid`,
 * `topic_too_long`.
 */
export function planProduce(
  message: {
    readonly topic: string;
    readonly properties: Readonly<Record<string, string>>;
    readonly payload: Uint8Array;
  },
  topicMax: number,
): OutgoingMessage {
  const { properties, payload } = message;
  const second = properties["mqttSecondTopic"] ?? "";
  if (second !== "" && !second.startsWith("/")) {
    throw invalid("The property mqttSecondTopic begins with a slash.");
  }
  const topic = `${message.topic}${second}`;
  checkPublishTopic(topic, topicMax);
  const shownTopic = properties["mqttRealTopic"];
  if (shownTopic !== undefined) checkPublishTopic(shownTopic, topicMax);
  const qos = oneOf(properties, "qoslevel", ["0", "1", "2"], "1");
  const clean = oneOf(properties, "cleansessionflag", ["true", "false"], "true");
  return { topic, shownTopic, payload, qos: Number(qos) as 0 | 1 | 2, keep: clean === "false" };
}

function oneOf(
  properties: Readonly<Record<string, string>>,
  name: string,
  allowed: readonly string[],
  absent: string,
): string {
  const value = properties[name] ?? absent;
  if (allowed.includes(value)) return value;
  throw invalid(`The property ${name} is one of ${allowed.join(", ")}.`);
}

function readValue(raw: string, name: string): string {
  if (raw.length > MAX_VALUE) throw invalid(`The property ${name} is over ${MAX_VALUE} bytes.`);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.from(raw, "latin1"));
  } catch {
    throw invalid(`The property ${name} is not UTF-8.`);
  }
}

function invalid(message: string): HoldfastError {
  return new HoldfastError("request_invalid", message);
}
