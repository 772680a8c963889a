/**
 * How runs and replies are shown to a person. What a device sent is made printable first, because a
 * terminal would obey its control characters.
 */
import { isFinal, type Reply } from "../protocol/reply.ts";
import { durationText, type Format, printable, type Styler } from "./style.ts";

/** What is shown of a run; the operator's Run is one. */
export interface ShownRun {
  readonly id: string;
  readonly device: string;
  readonly command: string;
  readonly createdAt: number;
  readonly sentAt?: number;
  readonly final?: ShownReply;
  readonly contradictionCount: number;
}

export interface ShownReply {
  readonly at: number;
  readonly text: string;
  readonly reply: Reply;
}

/** The final reply: status and duration on a line, then the error or the result. */
export function finalText(run: ShownRun, style: Styler): string {
  const { final, sentAt, createdAt } = run;
  if (!final) return "";
  const { status, result, error } = final.reply;
  const took = style("dim", `after ${tookText(final.at - (sentAt ?? createdAt))}`);
  const lines = [
    `${style(statusFormat(status), status)} ${took}  ${printable(run.device)}  ${printable(run.command)}`,
  ];
  if (error) lines.push(printable(`${error.code}: ${error.message}`));
  if (error?.details) lines.push(jsonText(error.details));
  if (result !== undefined) {
    lines.push(typeof result === "string" ? linesText(result) : jsonText(result));
  }
  return `${lines.join("\n")}\n`;
}

/** One line for an answer that is not the last one. */
export function progressText({ reply }: ShownReply): string {
  const { status, progress, retryAfterMs } = reply;
  const more = progress === undefined ? "" : ` ${JSON.stringify(progress)}`;
  const pause = retryAfterMs === undefined ? "" : `, again in ${tookText(retryAfterMs)}`;
  return `${printable(status + more + pause)}\n`;
}

/** The device's own object where there is a final one, else what is known of the run; one line. */
export function runJson(run: ShownRun, state: string): string {
  const { id, device, command, sentAt, final } = run;
  const value: unknown = final
    ? JSON.parse(final.text)
    : { run: id, device, command, state, sentAt: sentAt ?? null };
  return `${JSON.stringify(value)}\n`;
}

export function contradictionText({ id, contradictionCount: count }: ShownRun): string {
  const others = count === 1 ? "Another final reply says" : `${count} more final replies say`;
  return (
    `holdfast: warning: ${others} something else; the first one is shown. ` +
    `See: holdfast runs show ${id}\n`
  );
}

export function statusFormat(status: Reply["status"]): Format {
  if (!isFinal(status)) return "yellow";
  return status === "succeeded" ? "green" : "red";
}

export function isSucceeded(run: ShownRun): boolean {
  return run.final?.reply.status === "succeeded";
}

/** Indented JSON without anything that a terminal obeys. */
export function jsonText(value: unknown): string {
  return linesText(JSON.stringify(value, undefined, 2) ?? "null");
}

function linesText(text: string): string {
  return text.split(/\r?\n/).map(printable).join("\n");
}

/** Short ones to the millisecond, because there they are a measurement. */
function tookText(ms: number): string {
  return ms < 10_000 ? `${Math.max(0, Math.round(ms))} ms` : durationText(ms);
}
