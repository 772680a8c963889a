/** What a device answers to a command: JSON, one final reply and perhaps some before it. */
import { HoldfastError } from "../core/errors.ts";
import { isJsonObject, type JsonObject, type JsonValue, parseJson } from "../core/json.ts";
import { limits } from "../core/limits.ts";
import { isCommandId } from "./envelope.ts";

/** Exactly one of these ends a command. */
export const finalStatuses = [
  "succeeded",
  "failed",
  "rejected",
  "expired",
  "cancelled",
  "interrupted",
] as const;
export type FinalStatus = (typeof finalStatuses)[number];

/** `busy`: not taken, the sender repeats the same bytes after `retryAfterMs`. */
export const passingStatuses = ["accepted", "running", "busy"] as const;
export type PassingStatus = (typeof passingStatuses)[number];

export interface ReplyError {
  readonly code: string;
  readonly message: string;
  readonly details?: JsonObject;
}

export interface Reply {
  /** The id of the command. */
  readonly id: string;
  /** The client id of the device. */
  readonly device: string;
  /** Unix milliseconds by the device's clock. */
  readonly at: number;
  readonly status: FinalStatus | PassingStatus;
  readonly result?: JsonValue;
  readonly error?: ReplyError;
  readonly progress?: JsonValue;
  readonly retryAfterMs?: number;
  /** This is piece n, from 1, of a reply in `of` pieces. */
  readonly part?: { readonly n: number; readonly of: number };
}

/** A result may nest deeper than a command, and stands one level down in its reply. */
const REPLY_JSON_DEPTH = 2 * limits.commandJsonDepth;

export function isFinal(status: FinalStatus | PassingStatus): status is FinalStatus {
  return (finalStatuses as readonly string[]).includes(status);
}

/**
 * The payload of a reply. Throws for a result that is no JSON or that `parseReply` would refuse:
 * `json_invalid`, `envelope_invalid`. Its size is for the caller to judge.
 */
export function encodeReply(reply: Reply): Uint8Array {
  const { id, device, at, status, ...rest } = reply;
  let text: string;
  try {
    text = JSON.stringify({ v: 1, id, device, at, status, final: isFinal(status), ...rest });
  } catch (cause) {
    // A cycle, a BigInt, or a toJSON that throws.
    throw new HoldfastError("json_invalid", "The result is not JSON.", {
      details: { reason: "not_json" },
      cause,
    });
  }
  const bytes = Buffer.from(text, "utf8");
  checkReply(bytes, bytes.length);
  return bytes;
}

/** Throws `json_invalid` or `envelope_invalid`. Members that it does not know are ignored. */
export function parseReply(bytes: Uint8Array): Reply {
  return checkReply(bytes, limits.payloadBytes);
}

function checkReply(bytes: Uint8Array, maxBytes: number): Reply {
  const value = parseJson(bytes, { maxBytes, maxDepth: REPLY_JSON_DEPTH });
  if (!isJsonObject(value)) throw wrong("reply", "must be an object");
  const { v, id, device, at, status, final } = value;
  if (v !== 1) throw wrong("v", "must be 1");
  if (typeof id !== "string" || !isCommandId(id)) throw wrong("id", "must be a command's id");
  if (typeof device !== "string" || device === "") throw wrong("device", "must be a client id");
  if (typeof at !== "number") throw wrong("at", "must be a Unix time in ms");
  if (!isStatus(status)) throw wrong("status", "must be a known status");
  if (final !== isFinal(status)) throw wrong("final", "must agree with the status");
  return { id, device, at, status, ...readOptional(value) };
}

function readOptional(value: JsonObject): Partial<Reply> {
  const { result, error, progress, retryAfterMs, part } = value;
  if (retryAfterMs !== undefined && !isCount(retryAfterMs)) {
    throw wrong("retryAfterMs", "must be a number of milliseconds");
  }
  return {
    ...(result !== undefined && { result }),
    ...(error !== undefined && { error: readError(error) }),
    ...(progress !== undefined && { progress }),
    ...(retryAfterMs !== undefined && { retryAfterMs }),
    ...(part !== undefined && { part: readPart(part) }),
  };
}

function readError(value: JsonValue): ReplyError {
  if (!isJsonObject(value)) throw wrong("error", "must be an object");
  const { code, message, details } = value;
  if (typeof code !== "string" || typeof message !== "string") {
    throw wrong("error", "must have a code and a message");
  }
  if (details === undefined) return { code, message };
  if (!isJsonObject(details)) throw wrong("error.details", "must be an object");
  return { code, message, details };
}

function readPart(value: JsonValue): { n: number; of: number } {
  if (isJsonObject(value)) {
    const { n, of } = value;
    if (isCount(n) && isCount(of) && n >= 1 && n <= of) return { n, of };
  }
  throw wrong("part", "must say which piece of how many it is");
}

function isStatus(value: unknown): value is FinalStatus | PassingStatus {
  return [...finalStatuses, ...passingStatuses].some((known) => known === value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function wrong(field: string, expected: string): HoldfastError {
  return new HoldfastError("envelope_invalid", `The member ${field} ${expected}.`, {
    details: { field },
  });
}
