import { HoldfastError } from "./errors.ts";

export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };
export type JsonObject = { readonly [key: string]: JsonValue };

export interface JsonBounds {
  readonly maxBytes: number;
  readonly maxDepth: number;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * JSON from a stranger: bounded in size and depth before the parser sees it, strict about UTF-8,
 * without integers that a double would round, and without `__proto__` keys.
 * Throws `json_invalid` with `details.reason`: `too_large`, `not_utf8`, `too_deep`, `not_json`,
 * `number_range` or `forbidden_key`.
 */
export function parseJson(bytes: Uint8Array, bounds: JsonBounds): JsonValue {
  if (bytes.length > bounds.maxBytes) {
    throw invalid("too_large", `It is ${bytes.length} bytes long, ${bounds.maxBytes} are allowed.`);
  }
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch (cause) {
    throw invalid("not_utf8", "It is not UTF-8 text.", cause);
  }
  if (jsonDepth(text) > bounds.maxDepth) {
    throw invalid("too_deep", `It is nested deeper than ${bounds.maxDepth} levels.`);
  }
  try {
    return JSON.parse(text, checkMember) as JsonValue;
  } catch (cause) {
    if (cause instanceof HoldfastError) throw cause;
    throw invalid("not_json", "It is not JSON.", cause);
  }
}

/** True for an object that is neither null nor an array. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The deepest nesting of brackets outside strings; the text need not be valid. */
export function jsonDepth(text: string): number {
  let depth = 0;
  let deepest = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (inString) {
      if (c === 0x5c) i++;
      else if (c === 0x22) inString = false;
    } else if (c === 0x22) inString = true;
    else if (c === 0x7b || c === 0x5b) deepest = Math.max(deepest, ++depth);
    else if (c === 0x7d || c === 0x5d) depth--;
  }
  return deepest;
}

function checkMember(this: unknown, key: string, value: unknown): unknown {
  if (key === "__proto__") throw invalid("forbidden_key", "It has a member named __proto__.");
  if (typeof value === "number") {
    if (!Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value))) {
      throw invalid("number_range", "It has a number that would be rounded.");
    }
  }
  return value;
}

function invalid(reason: string, message: string, cause?: unknown): HoldfastError {
  return new HoldfastError("json_invalid", message, { details: { reason }, cause });
}
