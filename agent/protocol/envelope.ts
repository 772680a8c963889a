/**
 * The command envelope, version 1: what arrives on `<down>/p2p/<own client id>`. Pure: bytes in,
 * a verdict about their form out. Who may do what is decided elsewhere.
 */
import { createHash } from "node:crypto";
import { HoldfastError, isHoldfastError } from "../core/errors.ts";
import { isJsonObject, type JsonObject, jsonDepth, parseJson } from "../core/json.ts";
import { limits } from "../core/limits.ts";
import { isClientId, type Profile } from "./client-id.ts";

export interface CommandEnvelope {
  readonly id: string;
  /** The client id of the device. */
  readonly to: string;
  /** The client id of the sender. */
  readonly from: string;
  /** `<plugin>.<verb>` */
  readonly command: string;
  readonly params: JsonObject;
  /** Unix milliseconds, as is expiresAt. */
  readonly issuedAt: number;
  readonly expiresAt: number;
  readonly replyTo?: string;
  readonly nonce?: string;
  readonly progress?: boolean;
}

export type ParsedCommand =
  | { readonly kind: "command"; readonly envelope: CommandEnvelope; readonly digest: string }
  /** Addressed to us by a well-formed sender under a valid id, so it can be answered. */
  | {
      readonly kind: "invalid";
      readonly id: string;
      readonly from: string;
      readonly field: string;
      readonly message: string;
      readonly digest: string;
    }
  | { readonly kind: "wrong_recipient"; readonly from: string }
  /** A JWS compact serialization; its signature has yet to be checked by someone who can. */
  | { readonly kind: "signed" }
  /** Nobody to answer to, or nothing to answer about. */
  | { readonly kind: "unreadable"; readonly reason: UnreadableReason };

export type UnreadableReason =
  | "empty"
  | "too_large"
  | "not_utf8"
  | "not_json"
  | "too_deep"
  | "number_range"
  | "forbidden_key"
  | "not_object"
  | "from_invalid"
  | "id_invalid";

export interface Recipient {
  readonly ownClientId: string;
  readonly profile: Profile;
}

const ID = /^[A-Za-z0-9._:-]{1,64}$/;
const NAME = /^[A-Za-z][A-Za-z0-9_-]{0,31}\.[A-Za-z][A-Za-z0-9_-]{0,63}$/;
/** The last moment that a Date can hold; a time beyond it is a mistake. */
const LAST_MS = 8_640_000_000_000_000;
const NONCE_CHARS = 128;

export function isCommandId(text: string): boolean {
  return ID.test(text);
}

/** `<plugin>.<verb>`, each of letters, digits, `-` and `_` and starting with a letter. */
export function isCommandName(text: string): boolean {
  return NAME.test(text);
}

/** SHA-256 in hex over the bytes as they were sent: what makes a repetition the same command. */
function commandDigest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Never throws, whatever the bytes. Members that it does not know are ignored. */
export function parseCommand(bytes: Uint8Array, recipient: Recipient): ParsedCommand {
  if (bytes.length === 0) return { kind: "unreadable", reason: "empty" };
  if (isCompactJws(bytes)) return { kind: "signed" };
  let value: unknown;
  try {
    value = parseJson(bytes, {
      maxBytes: limits.commandPayloadBytes,
      maxDepth: limits.commandJsonDepth,
    });
  } catch (error) {
    return { kind: "unreadable", reason: jsonReason(error) };
  }
  if (!isJsonObject(value)) return { kind: "unreadable", reason: "not_object" };
  return checkForm(value, commandDigest(bytes), recipient);
}

/**
 * The payload of an unsigned command, for the one who sends it. Throws `envelope_invalid` for
 * fields that no device would take, and `payload_too_large`.
 */
export function encodeCommand(envelope: CommandEnvelope): Uint8Array {
  if (!ID.test(envelope.id)) throw wrong("id", "must be 1 to 64 of A-Z a-z 0-9 . _ : -");
  const fault = findFault({ v: 1, ...envelope });
  if (fault) throw wrong(fault.field, fault.expected);
  const { id, to, from, command, params, issuedAt, expiresAt, ...optional } = envelope;
  const text = JSON.stringify({
    v: 1,
    id,
    to,
    from,
    command,
    params,
    issuedAt,
    expiresAt,
    ...optional,
  });
  if (jsonDepth(text) > limits.commandJsonDepth) {
    throw wrong("params", `must not nest deeper than ${limits.commandJsonDepth - 1} levels`);
  }
  const bytes = Buffer.from(text, "utf8");
  if (bytes.length > limits.commandPayloadBytes) {
    throw new HoldfastError(
      "payload_too_large",
      `The command is ${bytes.length} bytes long, ${limits.commandPayloadBytes} are allowed.`,
    );
  }
  return bytes;
}

function checkForm(fields: JsonObject, digest: string, recipient: Recipient): ParsedCommand {
  const { id, from, to } = fields;
  if (
    typeof from !== "string" ||
    from === recipient.ownClientId ||
    !isClientId(from, recipient.profile)
  ) {
    return { kind: "unreadable", reason: "from_invalid" };
  }
  if (to !== recipient.ownClientId) return { kind: "wrong_recipient", from };
  if (typeof id !== "string" || !ID.test(id)) return { kind: "unreadable", reason: "id_invalid" };
  const fault = findFault(fields);
  if (fault) {
    const message = `The member ${fault.field} ${fault.expected}.`;
    return { kind: "invalid", id, from, field: fault.field, message, digest };
  }
  return { kind: "command", envelope: { ...pickChecked(fields), id, from, to }, digest };
}

/** The first member that is not as the design says, apart from id, from and to. */
function findFault(fields: {
  readonly [key: string]: unknown;
}): { readonly field: string; readonly expected: string } | undefined {
  const { v, command, params, issuedAt, expiresAt, replyTo, nonce, progress } = fields;
  if (v !== 1) return { field: "v", expected: "must be 1" };
  if (typeof command !== "string" || !NAME.test(command)) {
    return { field: "command", expected: "must be of the form PLUGIN.VERB" };
  }
  if (params !== undefined && !isJsonObject(params)) {
    return { field: "params", expected: "must be an object" };
  }
  if (!isTime(issuedAt)) return { field: "issuedAt", expected: "must be a Unix time in ms" };
  if (!isTime(expiresAt)) return { field: "expiresAt", expected: "must be a Unix time in ms" };
  if (expiresAt < issuedAt) {
    return { field: "expiresAt", expected: "must not be before issuedAt" };
  }
  if (replyTo !== undefined && typeof replyTo !== "string") {
    return { field: "replyTo", expected: "must be a topic" };
  }
  if (nonce !== undefined && (typeof nonce !== "string" || nonce.length > NONCE_CHARS)) {
    return { field: "nonce", expected: `must be a text of at most ${NONCE_CHARS} characters` };
  }
  if (progress !== undefined && typeof progress !== "boolean") {
    return { field: "progress", expected: "must be true or false" };
  }
  return undefined;
}

/** Only after `findFault` found none: the types below are what it checked. */
function pickChecked(fields: JsonObject): Omit<CommandEnvelope, "id" | "from" | "to"> {
  const { command, params = {}, issuedAt, expiresAt, replyTo, nonce, progress } = fields;
  return {
    command: command as string,
    params: params as JsonObject,
    issuedAt: issuedAt as number,
    expiresAt: expiresAt as number,
    ...(replyTo !== undefined && { replyTo: replyTo as string }),
    ...(nonce !== undefined && { nonce: nonce as string }),
    ...(progress !== undefined && { progress: progress as boolean }),
  };
}

function isTime(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= LAST_MS;
}

/** Three base64url parts with dots between; JSON cannot look like that (RFC 7515 section 7.1). */
function isCompactJws(bytes: Uint8Array): boolean {
  let dots = 0;
  let inPart = 0;
  for (const byte of bytes) {
    if (byte === 0x2e) {
      if (inPart === 0) return false;
      dots++;
      inPart = 0;
    } else if (isBase64Url(byte)) inPart++;
    else return false;
  }
  return dots === 2 && inPart > 0;
}

function isBase64Url(byte: number): boolean {
  return (
    (byte >= 0x30 && byte <= 0x39) ||
    (byte >= 0x41 && byte <= 0x5a) ||
    (byte >= 0x61 && byte <= 0x7a) ||
    byte === 0x2d ||
    byte === 0x5f
  );
}

function jsonReason(error: unknown): UnreadableReason {
  if (!isHoldfastError(error, "json_invalid")) throw error;
  return error.details["reason"] as UnreadableReason;
}

function wrong(field: string, expected: string): HoldfastError {
  return new HoldfastError("envelope_invalid", `The member ${field} ${expected}.`, {
    details: { field },
  });
}
