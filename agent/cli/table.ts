/**
 * Aligned columns. Our own few lines because that is all we need: table libraries draw borders,
 * wrap cells and bring their own packages for colours and character widths.
 */
import { type Format, printable, type Styler } from "./style.ts";

export interface Column<Row> {
  readonly title: string;
  readonly align?: "left" | "right";
  /** Anything is fine; it is made printable here. */
  cell(row: Row): string;
  /** How the cell looks, by what it says. */
  format?(row: Row): Format | undefined;
}

const GAP = "  ";

/** With a line of titles; each line ends with a newline. No rows: nothing. */
export function renderTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  style: Styler,
): string {
  if (rows.length === 0) return "";
  const cells = rows.map((row) => columns.map((column) => printable(column.cell(row))));
  const widths = columns.map((column, at) =>
    Math.max(column.title.length, ...cells.map((line) => line[at]?.length ?? 0)),
  );
  const padded = (texts: readonly string[]): string[] =>
    texts.map((text, at) => {
      const width = widths[at] ?? 0;
      if (columns[at]?.align === "right") return text.padStart(width);
      return at === columns.length - 1 ? text : text.padEnd(width);
    });
  const titles = style("dim", padded(columns.map(({ title }) => title)).join(GAP));
  const lines = rows.map((row, index) =>
    padded(cells[index] ?? [])
      .map((text, at) => {
        const format = columns[at]?.format?.(row);
        return format ? style(format, text) : text;
      })
      .join(GAP)
      .trimEnd(),
  );
  return `${[titles, ...lines].join("\n")}\n`;
}

/** Names on the left, values on the right; lines of a value below each other. */
export function renderFacts(facts: readonly (readonly [string, string])[], style: Styler): string {
  const width = Math.max(...facts.map(([name]) => name.length));
  return facts
    .map(([name, value]) => {
      const indented = value.replaceAll("\n", `\n${" ".repeat(width)}${GAP}`);
      return `${style("bold", name.padEnd(width))}${GAP}${indented}\n`;
    })
    .join("");
}
