/** The other end of `holdfast.sock`: what the CLI speaks to a running agent with. */
import { type IncomingMessage as HttpResponse, request as httpRequest } from "node:http";
import { join } from "node:path";
import { type Clock, withDeadline } from "../core/clock.ts";
import { type ErrorCode, errorTable, HoldfastError } from "../core/errors.ts";
import { isJsonObject, type JsonObject, type JsonValue, parseJson } from "../core/json.ts";
import type { BatchAnswer } from "./batch.ts";
import type { ListName, Page } from "./ports.ts";
import type { StatusReport } from "./status-report.ts";

/** Longer than the agent takes to give up by itself, so that its answer says why. */
const ANSWER_TIMEOUT_MS = 90_000;
/** A full page of the longest list stays below this. */
const MAX_ANSWER_BYTES = 16 * 1_048_576;
const MAX_ANSWER_DEPTH = 64;

export interface PutOptions {
  readonly topic: string;
  readonly lane?: string | undefined;
  readonly ttlS?: number | undefined;
  readonly key?: string | undefined;
  readonly id?: string | undefined;
}

interface Request {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly body?: Uint8Array;
}

/**
 * Every method throws `unreachable` when no agent answers, `timed_out` when it took too long, and
 * the agent's own error with its code when it refused.
 */
export class ControlClient {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;

  constructor(
    options: { readonly dir: string },
    deps: { readonly clock: Clock; readonly signal: AbortSignal },
  ) {
    this.#path = join(options.dir, "holdfast.sock");
    this.#clock = deps.clock;
    this.#signal = deps.signal;
  }

  async status(): Promise<StatusReport> {
    return (await this.#ask({ method: "GET", path: "/v1/status" })) as unknown as StatusReport;
  }

  async put(options: PutOptions, payload: Uint8Array): Promise<JsonObject> {
    const { topic, lane, ttlS, key, id } = options;
    const path = `/v1/messages${queryText({ topic, lane, ttl_s: ttlS, key, id })}`;
    return this.#ask({ method: "POST", path, body: payload });
  }

  /** `lines`: JSON objects, one a line. */
  async putBatch(lines: Uint8Array): Promise<BatchAnswer> {
    const answer = await this.#ask({ method: "POST", path: "/v1/messages:batch", body: lines });
    return answer as unknown as BatchAnswer;
  }

  async list(name: ListName, page: { cursor?: string; limit?: number } = {}): Promise<Page> {
    const answer = await this.#ask({ method: "GET", path: `/v1/${name}${queryText(page)}` });
    return answer as unknown as Page;
  }

  async command(id: string): Promise<JsonObject> {
    return this.#ask({ method: "GET", path: `/v1/commands/${encodeURIComponent(id)}` });
  }

  /** Tries this message's topic again at once, or all of the quarantine; gives how many wait for it. */
  async retryQuarantined(id?: string): Promise<number> {
    const path = `${quarantinePath(id)}:retry`;
    return Number((await this.#ask({ method: "POST", path }))["retried"]);
  }

  /** Lets this message go for good, or all of the quarantine; gives how many went. */
  async dropQuarantined(id?: string): Promise<number> {
    const path = quarantinePath(id);
    return Number((await this.#ask({ method: "DELETE", path }))["dropped"]);
  }

  async #ask(request: Request): Promise<JsonObject> {
    const outcome = await withDeadline(this.#clock, ANSWER_TIMEOUT_MS, this.#signal, (signal) =>
      exchange(this.#path, request, signal),
    );
    if (outcome.timedOut) {
      throw new HoldfastError("timed_out", `The agent at ${this.#path} does not answer.`);
    }
    const { status, body } = outcome.value;
    if (status === 200 && isJsonObject(body)) return body;
    throw refusal(status, body);
  }
}

interface Reply {
  readonly status: number;
  readonly body: JsonValue;
}

function exchange(socketPath: string, request: Request, signal: AbortSignal): Promise<Reply> {
  const { method, path, body = new Uint8Array() } = request;
  return new Promise((resolve, reject) => {
    const failed = (error: Error): void => reject(connectionError(socketPath, error, signal));
    const headers = method === "POST" ? { "content-length": body.length } : {};
    const sent = httpRequest({ socketPath, method, path, headers, agent: false, signal });
    sent.once("error", failed);
    sent.once("response", (response) => {
      // The agent may answer before it has read everything; writing to it then fails, and that
      // is not the news.
      sent.off("error", failed).on("error", () => undefined);
      readReply(response).then(resolve, failed);
    });
    sent.end(body);
  });
}

async function readReply(response: HttpResponse): Promise<Reply> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_ANSWER_BYTES) break;
    chunks.push(chunk);
  }
  const bounds = { maxBytes: MAX_ANSWER_BYTES, maxDepth: MAX_ANSWER_DEPTH };
  return { status: response.statusCode ?? 0, body: parseJson(Buffer.concat(chunks), bounds) };
}

function connectionError(path: string, error: Error, signal: AbortSignal): Error {
  if (error instanceof HoldfastError) {
    return new HoldfastError("unreachable", `What answers at ${path} is not the agent.`, {
      cause: error,
    });
  }
  if (signal.aborted) return new HoldfastError("cancelled", "It was interrupted.");
  const code: unknown = "code" in error ? error.code : undefined;
  return new HoldfastError("unreachable", unreachableMessage(path, code), {
    ...(code !== "ENOENT" && code !== "ECONNREFUSED" && code !== "EACCES" && { cause: error }),
  });
}

/** What to check, for each way of not getting through. */
function unreachableMessage(path: string, code: unknown): string {
  const elsewhere =
    "If it uses another control.dir, name it by --config FILE or HOLDFAST_CONTROL__DIR.";
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      return `No agent has its socket at ${path}. Is it running? ${elsewhere}`;
    case "ECONNREFUSED":
      return `The agent that had its socket at ${path} is gone. Start it again, and read its log.`;
    case "EACCES":
    case "EPERM":
      return `You may not open ${path}. Ask as root or as a member of the socket's group.`;
    default:
      return `The agent at ${path} cannot be reached. ${elsewhere}`;
  }
}

function refusal(status: number, body: JsonValue): HoldfastError {
  const error = isJsonObject(body) ? body["error"] : undefined;
  const code = isJsonObject(error) ? error["code"] : undefined;
  const message = isJsonObject(error) ? error["message"] : undefined;
  const known = typeof code === "string" && Object.hasOwn(errorTable, code);
  return new HoldfastError(
    known ? (code as ErrorCode) : "rejected_by_service",
    typeof message === "string" ? message : `The agent answered with status ${status}.`,
    { details: { status } },
  );
}

function quarantinePath(id: string | undefined): string {
  return id === undefined ? "/v1/quarantine" : `/v1/quarantine/${encodeURIComponent(id)}`;
}

function queryText(parameters: Readonly<Record<string, string | number | undefined>>): string {
  const pairs = Object.entries(parameters)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`);
  return pairs.length > 0 ? `?${pairs.join("&")}` : "";
}
