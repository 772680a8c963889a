import { describeError } from "../core/errors.ts";
import type { LogFields } from "../core/log.ts";

const MAX_STRING_CHARS = 2_048;
const MAX_ITEMS = 20;
const MAX_LINE_CHARS = 16_384;

export type LineHead = Readonly<Record<string, string>>;

/** One line with its newline. A field named like one of the head's gets a trailing underscore. */
export function formatLine(head: LineHead, fields: LogFields): string {
  const line: Record<string, unknown> = { ...head, event: shorten(head["event"] ?? "") };
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined) line[name in head ? `${name}_` : name] = printable(value);
  }
  const text = JSON.stringify(line);
  if (text.length <= MAX_LINE_CHARS) return `${text}\n`;
  return `${JSON.stringify({ ...head, event: shorten(head["event"] ?? ""), truncated: true })}\n`;
}

/** The types allow only plain values; what slips through a cast is not printed either. */
function printable(value: unknown): unknown {
  switch (typeof value) {
    case "string":
      return shorten(value);
    case "number":
      return Number.isFinite(value) ? value : String(value);
    case "boolean":
      return value;
    case "object":
      if (value === null) return null;
      if (value instanceof Error) return shorten(describeError(value));
      return Array.isArray(value) ? printableList(value) : "[object]";
    default:
      return `[${typeof value}]`;
  }
}

function printableList(list: readonly unknown[]): unknown[] {
  const shown = list
    .slice(0, MAX_ITEMS)
    .map((i) => (typeof i === "object" ? "[object]" : printable(i)));
  return list.length > MAX_ITEMS ? [...shown, `... ${list.length - MAX_ITEMS} more`] : shown;
}

function shorten(text: string): string {
  return text.length <= MAX_STRING_CHARS ? text : `${text.slice(0, MAX_STRING_CHARS)}...`;
}
