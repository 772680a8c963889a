import { HoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";

/** lmq: the service of the sheet; mqtt: any standard broker. */
export type Profile = "lmq" | "mqtt";

export interface ClientId {
  /** The whole id, as in CONNECT. */
  readonly text: string;
  /** The part before `@@@`; none in the profile mqtt. */
  readonly group: string | undefined;
  /** The part behind `@@@`; the whole id in the profile mqtt. */
  readonly device: string;
}

const SEPARATOR = "@@@";
const PART = /^[0-9A-Za-z_-]+$/;
const GROUP_ID = /^GID[_-][0-9A-Za-z_-]{3,60}$/;

/**
 * lmq-protocol 1.1: `<GroupID>@@@<DeviceID>`, split at the first `@@@`, both parts non-empty and of
 * `0-9 A-Z a-z - _`, at most 64 characters in all. A standard broker takes more, but the id is also
 * one level of the topic on which the device is addressed, so the characters that mean something in
 * a topic stay out [MQTT-3.1.3-4], and it must fit a topic. Throws `client_id_invalid`.
 */
export function parseClientId(text: string, profile: Profile): ClientId {
  return profile === "lmq" ? parseLmq(text) : parseStandard(text);
}

/** Throws `client_id_invalid`, as `parseClientId` does for the result. */
export function makeClientId(group: string, device: string): string {
  return parseLmq(`${group}${SEPARATOR}${device}`).text;
}

export function isClientId(text: string, profile: Profile): boolean {
  try {
    parseClientId(text, profile);
    return true;
  } catch {
    return false;
  }
}

/** lmq-protocol 1.1: 7 to 64 characters, starts with `GID_` or `GID-`. */
export function isGroupId(text: string): boolean {
  return GROUP_ID.test(text);
}

function parseLmq(text: string): ClientId {
  if (text.length > limits.clientIdChars) {
    throw invalid(
      `The client id is ${text.length} characters long, ${limits.clientIdChars} are allowed.`,
    );
  }
  const at = text.indexOf(SEPARATOR);
  const group = text.slice(0, Math.max(at, 0));
  const device = text.slice(at + SEPARATOR.length);
  if (at < 0 || group === "" || device === "") {
    throw invalid("The client id must be of the form GROUP@@@DEVICE.");
  }
  if (!PART.test(group) || !PART.test(device)) {
    throw invalid("The client id may hold letters, digits, - and _ around its @@@ only.");
  }
  return { text, group, device };
}

function parseStandard(text: string): ClientId {
  if (text === "") throw invalid("The client id is empty.");
  if (text.length > limits.topicChars) {
    throw invalid(
      `The client id is ${text.length} characters long, ${limits.topicChars} fit a topic.`,
    );
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it refuses
  if (/[\u0000-\u001f\u007f-\u009f+#/]/.test(text) || !text.isWellFormed()) {
    throw invalid("The client id may not hold +, #, / or control characters.");
  }
  return { text, group: undefined, device: text };
}

function invalid(message: string): HoldfastError {
  return new HoldfastError("client_id_invalid", message);
}
