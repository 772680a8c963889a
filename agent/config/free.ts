import { describeNode, formatPath, type Node, type TableNode, type Where } from "./node.ts";
import type { Problems } from "./problems.ts";
import type { FreeTable, FreeValue } from "./table.ts";
import { parseTomlValue } from "./toml.ts";

interface Context {
  readonly problems: Problems;
  readonly origins: Map<string, Where>;
}

/** `[plugins.config.NAME]`: tables of anything, merged key by key, a later source over an earlier. */
export function loadFree(
  path: readonly string[],
  layers: readonly TableNode[],
  context: Context,
): Readonly<Record<string, FreeTable>> {
  const result: Record<string, FreeTable> = Object.create(null);
  for (const layer of layers) {
    for (const [name, node] of layer.entries) {
      const at = [...path, name];
      if (node.kind === "table") result[name] = merge(result[name], node, at, context);
      else {
        const wrong = `it is ${describeNode(node)}; expected a section: [${formatPath(at)}]`;
        context.problems.add(node.where, at, wrong);
      }
    }
  }
  return result;
}

function merge(
  into: FreeValue | undefined,
  table: TableNode,
  path: readonly string[],
  context: Context,
): FreeTable {
  const base = isTable(into) ? into : {};
  const result: Record<string, FreeValue> = Object.assign(Object.create(null), base);
  for (const [name, node] of table.entries) {
    const at = [...path, name];
    if (node.kind === "table") result[name] = merge(result[name], node, at, context);
    else {
      result[name] = convert(node, at, context);
      context.origins.set(formatPath(at), node.where);
    }
  }
  return result;
}

function convert(node: Node, path: readonly string[], context: Context): FreeValue {
  switch (node.kind) {
    case "table":
      return merge(undefined, node, path, context);
    case "list":
      return node.items.map((item, i) => convert(item, [...path, String(i)], context));
    case "text": {
      // A variable means what TOML would make of it: 5, true, ["a"]; any other text is itself.
      const value = parseTomlValue(node.text, node.where);
      return value ? convert(value, path, context) : node.text;
    }
    case "scalar":
      if (typeof node.value === "bigint" || node.value instanceof Date) {
        const expected = "a string, a boolean or a number that a double can hold";
        context.problems.add(node.where, path, `it is ${node.what}; expected ${expected}`);
        return "";
      }
      return node.value;
  }
}

function isTable(value: FreeValue | undefined): value is FreeTable {
  return typeof value === "object" && !Array.isArray(value);
}
