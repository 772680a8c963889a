/**
 * Rules for topics, the same on the device and in the service: lmq-protocol 1.2 over MQTT 3.1.1
 * section 4.7. The first level is the parent topic, always literal; what is below it is free.
 * Length is counted in characters, as the service counts it.
 */
import { HoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";

const P2P = "p2p";
const PARENT = /^[0-9A-Za-z_-]+$/;

/** Throws `topic_invalid` or `topic_too_long` for what may not be published to. */
export function checkPublishTopic(topic: string, max: number = limits.topicChars): void {
  checkCommon(topic, max);
  if (/[+#]/.test(topic)) {
    throw invalid(topic, "A topic to publish to has no wildcards."); // [MQTT-3.3.2-2]
  }
}

/** Throws `topic_invalid` or `topic_too_long` for what may not be subscribed to. */
export function checkTopicFilter(filter: string, max: number = limits.topicChars): void {
  checkCommon(filter, max);
  const levels = filter.split("/");
  if (/[+#]/.test(levels[0] as string)) {
    throw invalid(filter, "The parent topic, the first level, must be literal.");
  }
  for (const [i, level] of levels.entries()) {
    // [MQTT-4.7.1-2] and [MQTT-4.7.1-3]
    if (level.includes("#") && (level !== "#" || i !== levels.length - 1)) {
      throw invalid(filter, "The wildcard # must be the whole last level.");
    }
    if (level.includes("+") && level !== "+") {
      throw invalid(filter, "The wildcard + must be a whole level.");
    }
  }
}

/** Throws `topic_invalid` for what cannot be a parent topic: one level of the plain characters. */
export function checkParentTopic(parent: string): void {
  if (!PARENT.test(parent)) {
    throw invalid(parent, "A parent topic is one level of letters, digits, - and _.");
  }
}

/** lmq-protocol 1.2: over 64 characters some editions of the service refuse a topic. */
export function topicLength(
  topic: string,
  max: number = limits.topicChars,
): "ok" | "long" | "too_long" {
  if (topic.length > max) return "too_long";
  return topic.length > limits.topicWarnChars ? "long" : "ok";
}

export function parentOf(topic: string): string {
  const slash = topic.indexOf("/");
  return slash < 0 ? topic : topic.slice(0, slash);
}

/** True for the control channels of the service, `$SYS/...`, and whatever else starts with `$`. */
export function isControlTopic(topic: string): boolean {
  return topic.startsWith("$");
}

/** lmq-protocol 5: `<parent>/p2p/<client id>`; the id must be a well-formed one. */
export function makeP2pTopic(parent: string, clientId: string): string {
  return `${parent}/${P2P}/${clientId}`;
}

/** Whom a topic addresses; undefined for one that is not of the form of `makeP2pTopic`. */
export function parseP2pTopic(topic: string): { parent: string; clientId: string } | undefined {
  const [parent, second, clientId, ...rest] = topic.split("/");
  if (!parent || second !== P2P || !clientId || rest.length > 0) return undefined;
  return { parent, clientId };
}

/** Whether a valid filter takes a valid topic. */
export function topicMatches(filter: string, topic: string): boolean {
  const wanted = filter.split("/");
  const levels = topic.split("/");
  // [MQTT-4.7.2-1]: a wildcard at the first level takes no control topic.
  if (isControlTopic(topic) && wanted[0] !== levels[0]) return false;
  for (const [i, level] of wanted.entries()) {
    if (level === "#") return true; // It takes its own parent level too.
    if (i >= levels.length || (level !== "+" && level !== levels[i])) return false;
  }
  return wanted.length === levels.length;
}

function checkCommon(topic: string, max: number): void {
  if (topic.length > max) {
    throw new HoldfastError(
      "topic_too_long",
      `The topic is ${topic.length} characters long, ${max} are allowed.`,
      { details: { topic: topic.slice(0, max), length: topic.length, max } },
    );
  }
  if (topic === "") throw invalid(topic, "The topic is empty."); // [MQTT-4.7.3-1]
  if (isControlTopic(topic)) {
    throw invalid(topic, "Topics that start with $ belong to the service.");
  }
  if (topic.startsWith("/")) {
    throw invalid(topic, "The topic has no parent topic before its first slash.");
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it refuses
  if (/[\u0000-\u001f\u007f-\u009f]/.test(topic) || !topic.isWellFormed()) {
    throw invalid(topic, "The topic holds characters that MQTT forbids or advises against.");
  }
}

function invalid(topic: string, message: string): HoldfastError {
  return new HoldfastError("topic_invalid", message, { details: { topic: topic.slice(0, 128) } });
}
