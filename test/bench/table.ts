/** The tables that the benchmark prints. */

export interface Row {
  readonly title: string;
  readonly figure: number;
  readonly direction: "at least" | "at most";
  readonly target: number | undefined;
  readonly aim: number | undefined;
  readonly verdict: "aim" | "met" | "MISSED" | "shown";
}

/** A figure with its target and its aim; without a target it is only shown. */
export function row(
  title: string,
  figure: number,
  direction: Row["direction"],
  bounds: readonly [number, number | undefined] | undefined,
): Row {
  const [target, aim] = bounds ?? [];
  const reaches = (bound: number): boolean =>
    direction === "at least" ? figure >= bound : figure <= bound;
  const verdict =
    target === undefined
      ? "shown"
      : aim !== undefined && reaches(aim)
        ? "aim"
        : reaches(target)
          ? "met"
          : "MISSED";
  return { title, figure, direction, target, aim, verdict };
}

export function renderRows(rows: readonly Row[]): string {
  const bound = (value: number | undefined): string => (value === undefined ? "" : String(value));
  return renderTable(
    ["job", "figure", "", "target", "aim", "verdict"],
    rows.map(({ title, figure, direction, target, aim, verdict }) => [
      ...[title, figure.toFixed(2), target === undefined ? "" : direction],
      ...[bound(target), bound(aim), verdict],
    ]),
  );
}

export function renderTable(head: readonly string[], lines: readonly string[][]): string {
  const widths = head.map((name, i) =>
    Math.max(name.length, ...lines.map((line) => (line[i] ?? "").length)),
  );
  const render = (cells: readonly string[]): string =>
    `| ${widths.map((width, i) => (cells[i] ?? "").padEnd(width)).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [render(head), rule, ...lines.map(render)].join("\n");
}
