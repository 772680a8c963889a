/**
 * What a source says, before anyone knows what the keys mean: a tree in which every value knows
 * where it was written.
 */

export interface Where {
  readonly source: "file" | "credential" | "environment" | "flag";
  /** Path of the file, name of the variable, or the flag as typed. */
  readonly name: string;
  /** In files; from 1. */
  readonly line?: number;
}

export type Node = TableNode | ListNode | ScalarNode | TextNode;

export interface TableNode {
  readonly kind: "table";
  readonly where: Where;
  readonly entries: Map<string, Node>;
}

export interface ListNode {
  readonly kind: "list";
  readonly where: Where;
  readonly items: Node[];
}

export interface ScalarNode {
  readonly kind: "scalar";
  readonly where: Where;
  readonly value: string | number | bigint | boolean | Date;
  /** As messages name it: "a string", "an integer". */
  readonly what: string;
}

/** Text from a variable or a flag: only the declaration of its key says what it means. */
export interface TextNode {
  readonly kind: "text";
  readonly where: Where;
  readonly text: string;
}

/** What an operator needs to find the place: `FILE:LINE`, a variable, a flag. */
export function formatWhere(where: Where): string {
  return where.line === undefined ? where.name : `${where.name}:${where.line}`;
}

export function tableNode(where: Where): TableNode {
  return { kind: "table", where, entries: new Map() };
}

export function describeNode(node: Node): string {
  if (node.kind === "table") return "a table";
  if (node.kind === "list") return "a list";
  return node.kind === "text" ? `the text ${JSON.stringify(node.text.slice(0, 100))}` : node.what;
}

/** `a.b."c.d"`: a path as TOML writes it. */
export function formatPath(path: readonly string[]): string {
  return path.map((part) => (/^[\w-]+$/.test(part) ? part : JSON.stringify(part))).join(".");
}
