/**
 * `publish --lines`: stdin, line by line, in batches. One batch is under way, the next one fills;
 * a live source (`tail -f`) thus waits for nothing and a file fills whole batches. When the next
 * batch is full, stdin is not read: what is in memory is bounded.
 *
 * A line that the agent refuses is told with its number and does not stop the others; the exit
 * status then is 1. Nothing is repeated: the order of the lines is kept instead.
 */
import type { ControlClient } from "../control/control.ts";
import { HoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";
import { printable } from "./style.ts";
import { type CliContext, type ExitStatus, exit } from "./subcommand.ts";

interface Template {
  readonly topic: string;
  readonly lane: string | undefined;
  readonly key: string | undefined;
  readonly ttlS: number | undefined;
}

interface Refused {
  readonly line: number;
  readonly code: string;
  readonly message: string;
}

const MAX_BATCH_LINES = 2_000;
/** Encoded; well under what one request may have. */
const MAX_BATCH_BYTES = limits.localApiBatchBytes / 4;
const PROGRESS_INTERVAL_MS = 2_000;
/** Refused lines that are told one by one; the others are counted. */
const MAX_TOLD = 100;
const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;

export async function publishLines(
  client: ControlClient,
  template: Template,
  { json, context }: { readonly json: boolean; readonly context: CliContext },
): Promise<ExitStatus> {
  const sender = new LineSender(client, template, context);
  try {
    const lines = linesOf(context);
    for (;;) {
      const next = await lines.next().catch(async (error: unknown) => {
        await sender.flush(); // What stops the reading does not stop the lines before it.
        throw error;
      });
      if (next.done) break;
      await sender.add(next.value.line, next.value.bytes);
    }
    await sender.flush();
  } finally {
    const { accepted, refused, told } = sender;
    const summary = { accepted, refused, errors: told };
    context.stderr.write(`${accepted} accepted, ${refused} refused\n`);
    if (json) context.stdout.write(`${JSON.stringify(summary)}\n`);
  }
  return sender.refused > 0 || context.signal.aborted ? exit.failed : exit.done;
}

class LineSender {
  accepted = 0;
  refused = 0;
  readonly told: Refused[] = [];
  readonly #client: ControlClient;
  readonly #head: string;
  readonly #context: CliContext;
  #waiting: string[] = [];
  #numbers: number[] = [];
  #waitingBytes = 0;
  #sending: Promise<void> | undefined;
  #lastProgressMs: number;

  constructor(client: ControlClient, { topic, lane, key, ttlS }: Template, context: CliContext) {
    this.#client = client;
    this.#context = context;
    const common = JSON.stringify({ topic, lane, key, ttl_s: ttlS });
    this.#head = `${common.slice(0, -1)},"payloadBase64":"`;
    this.#lastProgressMs = context.clock.monotonicMs();
  }

  async add(line: number, bytes: Uint8Array): Promise<void> {
    const encoded = `${this.#head}${Buffer.from(bytes).toString("base64")}"}\n`;
    const full = (): boolean =>
      this.#waiting.length >= MAX_BATCH_LINES ||
      this.#waitingBytes + encoded.length > MAX_BATCH_BYTES;
    while (full() && this.#waiting.length > 0) {
      this.#send();
      if (full()) await this.#sending;
    }
    this.#waiting.push(encoded);
    this.#numbers.push(line);
    this.#waitingBytes += encoded.length;
    // The rest of what was read with this line joins before the promise is looked at again.
    if (!this.#sending) await Promise.resolve();
    this.#send();
  }

  async flush(): Promise<void> {
    while (this.#sending || this.#waiting.length > 0) {
      this.#send();
      await this.#sending;
    }
  }

  /** Sends what waits unless a batch is under way. */
  #send(): void {
    if (this.#sending || this.#waiting.length === 0) return;
    const [lines, numbers] = [this.#waiting, this.#numbers];
    this.#waiting = [];
    this.#numbers = [];
    this.#waitingBytes = 0;
    const sending = this.#sendBatch(lines, numbers).finally(() => {
      this.#sending = undefined;
    });
    sending.catch(() => undefined); // Whoever awaits #sending next sees it.
    this.#sending = sending;
  }

  async #sendBatch(lines: readonly string[], numbers: readonly number[]): Promise<void> {
    const answer = await this.#client.putBatch(Buffer.from(lines.join(""), "utf8"));
    this.accepted += answer.accepted;
    for (const result of answer.results) {
      if ("error" in result) this.#tell(numbers[result.line - 1] ?? 0, result.error);
    }
    this.#progress();
  }

  #tell(line: number, { code, message }: { readonly code: string; readonly message: string }) {
    this.refused++;
    if (this.told.length >= MAX_TOLD) return;
    this.told.push({ line, code, message });
    this.#context.stderr.write(`line ${line}: ${printable(`${code}: ${message}`)}\n`);
  }

  #progress(): void {
    const nowMs = this.#context.clock.monotonicMs();
    if (nowMs - this.#lastProgressMs < PROGRESS_INTERVAL_MS) return;
    this.#lastProgressMs = nowMs;
    this.#context.stderr.write(`${this.accepted} accepted so far\n`);
  }
}

/** Lines with their numbers from 1; empty ones are counted and left out. */
async function* linesOf({ stdin, signal }: CliContext) {
  let rest: Uint8Array = new Uint8Array();
  let line = 1;
  for await (const chunk of stdin) {
    if (signal.aborted) return;
    let bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE)) {
      const content = withoutReturn(bytes.subarray(0, end));
      if (content.length > 0) yield { line, bytes: content };
      bytes = bytes.subarray(end + 1);
      line++;
    }
    // The agent refuses a long line by itself, but one without an end must not fill the memory.
    if (bytes.length > limits.payloadBytes) {
      throw new HoldfastError(
        "payload_too_large",
        `Line ${line} is over the ${limits.payloadBytes} bytes of one message; stopped there.`,
      );
    }
    rest = bytes;
  }
  const content = withoutReturn(rest);
  if (content.length > 0) yield { line, bytes: content };
}

function withoutReturn(line: Uint8Array): Uint8Array {
  return line.at(-1) === CARRIAGE_RETURN ? line.subarray(0, -1) : line;
}
