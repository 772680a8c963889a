/** The OpenMetrics 1.0 text format: families in, text out. */

export interface MetricFamily {
  /** Without the unit's and the counter's suffix rules broken: `holdfast_outbox_bytes`. */
  readonly name: string;
  readonly type: "gauge" | "counter" | "info" | "stateset";
  readonly help: string;
  readonly samples: readonly MetricSample[];
}

export interface MetricSample {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

export const openMetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8";

export function renderOpenMetrics(families: readonly MetricFamily[]): string {
  const lines: string[] = [];
  for (const { name, type, help, samples } of families) {
    lines.push(`# TYPE ${name} ${type}`, `# HELP ${name} ${escapeText(help)}`);
    const suffix = type === "counter" ? "_total" : type === "info" ? "_info" : "";
    for (const sample of samples) {
      lines.push(`${name}${suffix}${labelText(sample.labels)} ${valueText(sample.value)}`);
    }
  }
  return `${lines.join("\n")}\n# EOF\n`;
}

function labelText(labels: Readonly<Record<string, string>> = {}): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeText(value)}"`);
  return pairs.length > 0 ? `{${pairs.join(",")}}` : "";
}

function escapeText(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function valueText(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  return Number.isFinite(value) ? String(value) : value > 0 ? "+Inf" : "-Inf";
}
