/**
 * `POST /v1/messages:batch`: every line stands for itself. All lines are put before any is awaited,
 * so that they share one group commit and keep their order in their streams; the results come in
 * the order of the lines.
 */
import { setImmediate as turn } from "node:timers/promises";
import { HoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";
import type { OutgoingMessage, Receipt } from "../core/message.ts";
import { type ErrorBody, errorBody } from "./http-status.ts";
import { messageFromLine } from "./producer-message.ts";

/** After so many lines the event loop gets a turn: parsing 8 MiB in one go would hold up the link. */
const LINES_PER_TURN = 256;
const NEWLINE = 0x0a;

export interface BatchAnswer {
  readonly accepted: number;
  readonly results: readonly BatchResult[];
}

export type BatchResult =
  | { readonly line: number; readonly id: string; readonly safe: Receipt["safe"] }
  | { readonly line: number; readonly error: ErrorBody };

/** Throws `payload_too_large` for too many lines, before any of them is put. */
export async function putBatch(
  up: string,
  body: Uint8Array,
  put: (message: OutgoingMessage) => Promise<Receipt>,
  failed: (error: unknown) => void,
): Promise<BatchAnswer> {
  const pending: Promise<BatchResult>[] = [];
  for (const { line, bytes } of linesOf(body)) {
    if (line % LINES_PER_TURN === 0) await turn();
    pending.push(putLine(line, bytes));
  }
  const results = await Promise.all(pending);
  return { accepted: results.filter((result) => "id" in result).length, results };

  async function putLine(line: number, bytes: Uint8Array): Promise<BatchResult> {
    try {
      const { id, safe } = await put(messageFromLine(up, bytes));
      return { line, id, safe };
    } catch (error) {
      failed(error);
      return { line, error: errorBody(error) };
    }
  }
}

/** The lines that are not blank, numbered from 1 with the blank ones counted. */
function linesOf(body: Uint8Array): { line: number; bytes: Uint8Array }[] {
  const lines: { line: number; bytes: Uint8Array }[] = [];
  let start = 0;
  for (let line = 1; start < body.length; line++) {
    if (line > limits.localApiBatchLines) {
      throw new HoldfastError(
        "payload_too_large",
        `A batch has at most ${limits.localApiBatchLines} lines; none of these was taken.`,
      );
    }
    const found = body.indexOf(NEWLINE, start);
    const end = found < 0 ? body.length : found;
    const bytes = body.subarray(start, end);
    if (bytes.some((byte) => byte > 0x20)) lines.push({ line, bytes });
    start = end + 1;
  }
  return lines;
}
