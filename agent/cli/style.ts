/** How things look on a terminal; in a pipe they are plain. */
import { styleText } from "node:util";
import type { CliContext } from "./subcommand.ts";

export type Format = "bold" | "dim" | "green" | "yellow" | "red";
export type Styler = (format: Format, text: string) => string;

/** Colours only on a terminal that wants them (no-color.org). */
export function styler({ isTty, env }: Pick<CliContext, "isTty" | "env">): Styler {
  const noColor = env["NO_COLOR"];
  const wanted = isTty && (noColor === undefined || noColor === "") && env["TERM"] !== "dumb";
  if (!wanted) return (_format, text) => text;
  return (format, text) => styleText(format, text, { validateStream: false });
}

/**
 * Text from afar without what a terminal would obey: control characters, also the ones that turn
 * the direction of writing.
 */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, "\ufffd");
}

export function bytesText(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** The two largest units: `3 h 20 min`. A clock that went back gives `0 s`. */
export function durationText(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3_600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ] as const;
  const first = parts.findIndex(([amount]) => amount > 0);
  if (first < 0) return "0 s";
  return parts
    .slice(first, first + 2)
    .filter(([amount]) => amount > 0)
    .map(([amount, unit]) => `${amount} ${unit}`)
    .join(" ");
}

/** Local time is for wall clocks; machines and logs of several places want UTC. */
export function timeText(unixMs: number): string {
  const fits = Number.isFinite(unixMs) && Math.abs(unixMs) <= 8.64e15;
  return fits
    ? new Date(unixMs)
        .toISOString()
        .replace("T", " ")
        .replace(/\.\d+Z$/, "Z")
    : "?";
}
