import { dirname, resolve } from "node:path";
import { describeNode, type Node, type TextNode } from "./node.ts";
import { didYouMean } from "./problems.ts";
import type { Key } from "./table.ts";
import { parseTomlValue } from "./toml.ts";

/** The value, or what is wrong and what was expected. */
export type Read = { readonly value: unknown } | { readonly wrong: string };

/** Where relative paths start and what `~` is. */
export interface Folders {
  readonly working: string;
  readonly home: string;
}

/** What a node means to a key that is no secret. */
export function readValue(key: Key<unknown>, node: Node, folders: Folders): Read {
  const value = readTyped(key, node);
  if (value === undefined) {
    return { wrong: `it is ${describeNode(node)}; expected ${expectation(key)}` };
  }
  if (typeof value === "string" && key.oneOf && !key.oneOf.includes(value)) {
    const hint = didYouMean(value, key.oneOf);
    return { wrong: `it is ${show(value)}; expected ${expectation(key)}${hint}` };
  }
  if (typeof value === "number" && !inRange(value, key)) {
    return { wrong: `it is ${value}; expected ${expectation(key)}` };
  }
  const expected = key.check?.(value);
  if (expected !== undefined) {
    return { wrong: `${show(value)} does not fit; expected ${expected}` };
  }
  return { value: key.type === "path" ? resolvePath(String(value), node, folders) : value };
}

/** Bounded, and without the password that somebody may have put into a URL. */
function show(value: unknown): string {
  const text = JSON.stringify(value).replaceAll(/\/\/[^/"]*@/g, "//***@");
  return text.length > 200 ? `${text.slice(0, 200)}...` : text;
}

/** "an integer from 5 to 65535 (s)" */
export function expectation(key: Key<unknown>): string {
  if (key.oneOf) return `one of ${key.oneOf.join(", ")}`;
  const unit = key.unit === undefined ? "" : ` (${key.unit})`;
  return typeNames[key.type] + rangeOf(key) + unit;
}

const typeNames = {
  text: "a string",
  path: "a path as a string",
  integer: "an integer",
  number: "a number",
  boolean: "true or false",
  list: "a list of strings",
  secret: "a string",
} as const satisfies Record<Key<unknown>["type"], string>;

function rangeOf({ min, max }: Key<unknown>): string {
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`;
  if (min !== undefined) return `, at least ${min}`;
  return max === undefined ? "" : `, at most ${max}`;
}

/** Undefined: not of this type. */
function readTyped(key: Key<unknown>, node: Node): unknown {
  if (node.kind === "text") return readText(key, node);
  switch (key.type) {
    case "list":
      return readList(node);
    case "boolean":
      return node.kind === "scalar" && typeof node.value === "boolean" ? node.value : undefined;
    case "integer":
    case "number":
      return readNumber(key, node);
    default:
      return node.kind === "scalar" && typeof node.value === "string" ? node.value : undefined;
  }
}

function readNumber(key: Key<unknown>, node: Node): number | undefined {
  if (node.kind !== "scalar" || typeof node.value !== "number") return undefined;
  if (!Number.isFinite(node.value)) return undefined;
  // TOML tells 5 from 5.0, so a fraction where whole numbers are meant shows even when it is zero.
  if (key.type === "integer" && !node.what.startsWith("the integer")) return undefined;
  return node.value;
}

function readList(node: Node): readonly string[] | undefined {
  if (node.kind !== "list") return undefined;
  const strings = node.items.map((item) => (item.kind === "scalar" ? item.value : undefined));
  return strings.every((item) => typeof item === "string") ? strings : undefined;
}

/** A variable or flag: `5`, `true`, `a,b` or `["a", "b"]`. */
function readText(key: Key<unknown>, { text, where }: TextNode): unknown {
  switch (key.type) {
    case "integer":
      return /^[+-]?\d{1,16}$/.test(text) ? safely(Number(text)) : undefined;
    case "number":
      return /^[+-]?\d+(\.\d+)?(e[+-]?\d{1,3})?$/i.test(text) ? finitely(Number(text)) : undefined;
    case "boolean":
      return text === "true" || text === "false" ? text === "true" : undefined;
    case "list": {
      if (!text.startsWith("[")) return text === "" ? [] : text.split(",").map((p) => p.trim());
      const node = parseTomlValue(text, where);
      return node && readList(node);
    }
    default:
      return text;
  }
}

function safely(value: number): number | undefined {
  return Number.isSafeInteger(value) ? value : undefined;
}

function finitely(value: number): number | undefined {
  return Number.isFinite(value) ? value : undefined;
}

function inRange(value: number, { min, max }: Key<unknown>): boolean {
  return value >= (min ?? Number.NEGATIVE_INFINITY) && value <= (max ?? Number.POSITIVE_INFINITY);
}

export function resolvePath(path: string, node: Node, folders: Folders): string {
  if (path === "") return "";
  if (path === "~" || path.startsWith("~/")) return resolve(folders.home, path.slice(2));
  const base = node.where.source === "file" ? dirname(node.where.name) : ".";
  return resolve(folders.working, base, path);
}
