import type { JsonValue } from "../core/json.ts";

/** A reply wraps a result in an envelope and stays within what `parseJson` takes on arrival. */
const deepest = 24;
/** Values in one result; a result of this many does not fit a message anyway. */
const mostValues = 100_000;

export type ToJson =
  | { readonly ok: true; readonly value: JsonValue }
  /** `problem` names the place, like `result.list[2] is a function`. */
  | { readonly ok: false; readonly problem: string };

/**
 * A copy of `value` that is JSON and that the receiver's strict parser accepts. `undefined` becomes
 * null, undefined members are left out, `toJSON` is respected (dates). Everything that
 * `JSON.stringify` would silently change or choke on is a problem instead: NaN, functions, maps,
 * cycles, integers that a double rounds.
 */
export function toJson(value: unknown): ToJson {
  try {
    const budget = { left: mostValues };
    return { ok: true, value: value === undefined ? null : copy(value, "result", 0, budget) };
  } catch (error) {
    if (error instanceof NotJson) return { ok: false, problem: error.message };
    return { ok: false, problem: "result throws when it is read" }; // a getter or toJSON of its own
  }
}

class NotJson extends Error {}

function copy(value: unknown, path: string, depth: number, budget: { left: number }): JsonValue {
  if (--budget.left < 0) throw new NotJson(`result has more than ${mostValues} values`);
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      return checkNumber(value, path);
    case "object":
      break;
    default:
      throw new NotJson(`${path} is ${value === undefined ? "undefined" : `a ${typeof value}`}`);
  }
  if (value === null) return null;
  if (depth >= deepest) throw new NotJson(`result is nested deeper than ${deepest} levels`);
  if (Array.isArray(value)) {
    return value.map((item, i) => copy(item, `${path}[${i}]`, depth + 1, budget));
  }
  if ("toJSON" in value && typeof value.toJSON === "function") {
    return copy(value.toJSON(), path, depth + 1, budget);
  }
  return copyObject(value, path, depth, budget);
}

function copyObject(value: object, path: string, depth: number, budget: { left: number }) {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    throw new NotJson(`${path} is a ${value.constructor?.name ?? "special"} object`);
  }
  const out: Record<string, JsonValue> = {};
  for (const [key, member] of Object.entries(value)) {
    if (key === "__proto__") throw new NotJson(`${path} has a member named __proto__`);
    if (member !== undefined) out[key] = copy(member, `${path}.${key}`, depth + 1, budget);
  }
  return out;
}

function checkNumber(value: number, path: string): number {
  if (!Number.isFinite(value)) throw new NotJson(`${path} is ${value}`);
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
    throw new NotJson(`${path} is an integer over 2^53, which would be rounded`);
  }
  return value;
}
