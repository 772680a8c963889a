/**
 * TOML in and out; the only file that knows the library. It was chosen because its syntax tree has
 * a position for every key and value, so that an error about a value names the right line also in
 * dotted keys, inline tables and arrays of tables.
 */
import { type AST, ParseError, parseTOML } from "toml-eslint-parser";
import { type Node, type TableNode, tableNode, type Where } from "./node.ts";

/** A file over this is refused unread: configuration is written by hand. */
export const MAX_TOML_BYTES = 1_048_576;
const MAX_DEPTH = 32;

export type TomlResult =
  | { readonly ok: true; readonly root: TableNode }
  | { readonly ok: false; readonly line: number; readonly message: string };

/** Never throws: what is wrong with the text comes back with its line. */
export function parseToml(bytes: Uint8Array, name: string): TomlResult {
  const wrong = (line: number, message: string): TomlResult => ({ ok: false, line, message });
  if (bytes.length > MAX_TOML_BYTES) {
    return wrong(1, `the file has ${bytes.length} bytes; expected at most ${MAX_TOML_BYTES}`);
  }
  const text = decode(bytes);
  if (text === undefined) return wrong(1, "the file is not UTF-8 text; expected TOML");
  try {
    const [top] = parseTOML(text, { tomlVersion: "1.0" }).body;
    return { ok: true, root: new TreeBuilder(name).build(top) };
  } catch (error) {
    if (error instanceof ParseError) return wrong(lineOf(error), describeSyntax(error));
    if (error instanceof TooDeep) return wrong(error.line, tooDeep);
    // The library recurses: a text that exhausts the stack is nested beyond any use.
    if (error instanceof RangeError) return wrong(1, tooDeep);
    throw error;
  }
}

/** One value as TOML writes it, or undefined if the text is none. */
export function parseTomlValue(text: string, where: Where): Node | undefined {
  const result = parseToml(Buffer.from(`value = ${text}`), where.name);
  if (!result.ok || result.root.entries.size !== 1) return undefined;
  const node = result.root.entries.get("value");
  return node && relocate(node, where);
}

/** The parts of a dotted key, quoted parts included; undefined if it is none. */
export function parseTomlKey(text: string): readonly string[] | undefined {
  if (/[\r\n=]/.test(text)) return undefined;
  const result = parseToml(Buffer.from(`${text} = 0`), "key");
  if (!result.ok) return undefined;
  const path: string[] = [];
  for (let node: Node | undefined = result.root; node?.kind === "table"; ) {
    const first: [string, Node] | undefined = [...node.entries][0];
    if (!first) break;
    path.push(first[0]);
    node = first[1];
  }
  return path;
}

export type TomlValue = string | number | boolean | readonly TomlValue[] | TomlMap;
export interface TomlMap {
  readonly [key: string]: TomlValue;
}

export function formatTomlValue(value: TomlValue): string {
  if (typeof value === "string") return formatString(value);
  if (typeof value === "number") return formatNumber(value);
  if (typeof value === "boolean") return String(value);
  if (Array.isArray(value)) return `[${value.map(formatTomlValue).join(", ")}]`;
  const members = Object.entries(value).map(
    ([k, v]) => `${formatTomlKey(k)} = ${formatTomlValue(v)}`,
  );
  return members.length === 0 ? "{}" : `{ ${members.join(", ")} }`;
}

export function formatTomlKey(key: string): string {
  return /^[\w-]+$/.test(key) ? key : formatString(key);
}

function formatString(value: string): string {
  // JSON's escapes are TOML's, but for DEL, which TOML wants escaped too. A lone surrogate has no
  // form in TOML at all, so it becomes the replacement character.
  return JSON.stringify(value.toWellFormed()).replaceAll("\u007f", "\\u007f");
}

function formatNumber(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  return Number.isSafeInteger(value) && !Object.is(value, -0)
    ? value.toFixed(0)
    : formatFloat(value);
}

function formatFloat(value: number): string {
  const text = Object.is(value, -0) ? "-0.0" : String(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
}

const tooDeep = `tables or lists are nested too deep; expected at most ${MAX_DEPTH} levels`;

class TooDeep extends Error {
  readonly line: number;

  constructor(line: number) {
    super(tooDeep);
    this.line = line;
  }
}

/** From the library's tree to ours; duplicates are the library's to refuse. */
class TreeBuilder {
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
  }

  build(top: AST.TOMLTopLevelTable): TableNode {
    const root = tableNode(this.#where(top));
    for (const item of top.body) {
      if (item.type === "TOMLKeyValue") this.#assign(root, item, 0);
      else {
        const table = this.#open(root, item);
        for (const pair of item.body) this.#assign(table, pair, item.resolvedKey.length);
      }
    }
    return root;
  }

  #open(root: TableNode, header: AST.TOMLTable): TableNode {
    const where = this.#where(header);
    const keys = header.key.keys.map(nameOf);
    const last = keys.pop();
    if (last === undefined) return root;
    const parent = this.#descend(root, keys, where);
    if (header.kind === "standard") return this.#descend(parent, [last], where);
    const list = parent.entries.get(last) ?? { kind: "list", where, items: [] };
    parent.entries.set(last, list);
    const table = tableNode(where);
    if (list.kind === "list") list.items.push(table);
    return table;
  }

  /** The table at `keys`, made where missing; of an array of tables its last one. */
  #descend(from: TableNode, keys: readonly string[], where: Where): TableNode {
    if (keys.length > MAX_DEPTH) throw new TooDeep(where.line ?? 1);
    let table = from;
    for (const key of keys) {
      let next = table.entries.get(key);
      if (next?.kind === "list") next = next.items.at(-1);
      if (next?.kind !== "table") {
        next = tableNode(where);
        table.entries.set(key, next);
      }
      table = next;
    }
    return table;
  }

  #assign(table: TableNode, pair: AST.TOMLKeyValue, depth: number): void {
    const keys = pair.key.keys.map(nameOf);
    const last = keys.pop();
    if (last === undefined) return;
    const where = this.#where(pair.key);
    const target = this.#descend(table, keys, where);
    target.entries.set(last, this.#value(pair.value, where, depth + keys.length + 1));
  }

  #value(value: AST.TOMLContentNode, where: Where, depth: number): Node {
    if (depth > MAX_DEPTH) throw new TooDeep(where.line ?? 1);
    switch (value.type) {
      case "TOMLInlineTable": {
        const table = tableNode(where);
        for (const pair of value.body) this.#assign(table, pair, depth);
        return table;
      }
      case "TOMLArray": {
        const items = value.elements.map((e) => this.#value(e, this.#where(e), depth + 1));
        return { kind: "list", where, items };
      }
      case "TOMLValue":
        return scalar(value, where);
    }
  }

  #where(node: { readonly loc: AST.SourceLocation }): Where {
    return { source: "file", name: this.#name, line: node.loc.start.line };
  }
}

function scalar(value: AST.TOMLValue, where: Where): Node {
  const kind = "scalar";
  switch (value.kind) {
    case "integer": {
      const rounded = Number.isSafeInteger(value.value) ? value.value : value.bigint;
      return { kind, where, value: rounded, what: `the integer ${value.bigint}` };
    }
    case "float":
      return { kind, where, value: value.value, what: `the number ${value.number}` };
    case "string":
      return { kind, where, value: value.value, what: "a string" };
    case "boolean":
      return { kind, where, value: value.value, what: `the boolean ${value.value}` };
    default:
      return { kind, where, value: value.value, what: `the date or time ${value.datetime}` };
  }
}

function nameOf(key: AST.TOMLBare | AST.TOMLQuoted): string {
  return key.type === "TOMLBare" ? key.name : key.value;
}

/** What is missing at the end of a line is noticed at the start of the next; name the former. */
function lineOf(error: ParseError): number {
  const isMissing = /^(Unspecified|Unterminated|Missing)/.test(error.message);
  return error.column === 0 && isMissing ? Math.max(1, error.lineNumber - 1) : error.lineNumber;
}

function describeSyntax(error: ParseError): string {
  return `it is not TOML: ${error.message}; expected TOML 1.0`;
}

function decode(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function relocate(node: Node, where: Where): Node {
  switch (node.kind) {
    case "list":
      return { ...node, where, items: node.items.map((item) => relocate(item, where)) };
    case "table": {
      const entries = new Map([...node.entries].map(([k, v]) => [k, relocate(v, where)] as const));
      return { ...node, where, entries };
    }
    default:
      return { ...node, where };
  }
}
