/** One request to the HTTP side of a service, and its answer: a JSON object, bounded. */
import { type Clock, withDeadline } from "../../agent/core/clock.ts";
import { HoldfastError, isHoldfastError } from "../../agent/core/errors.ts";
import { isJsonObject, type JsonObject, parseJson } from "../../agent/core/json.ts";

/** Most answers are far shorter; the longest of them is a token with its frame. */
const ANSWER_BOUNDS = { maxBytes: 65_536, maxDepth: 8 };
const REQUEST_TIMEOUT_MS = 10_000;

export interface ServiceRequest {
  /** Base URL, as in `account.http`. */
  readonly http: string;
  readonly path: string;
  readonly method: "GET" | "POST";
  /** Sent as the query of a GET, as the form of a POST. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** Throws `unreachable`, `timed_out` or `protocol_error`; no parameter is part of an error. */
export async function askJson(
  { http, path, method, parameters }: ServiceRequest,
  deps: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<JsonObject> {
  const url = new URL(`${http.replace(/\/+$/, "")}${path}`);
  const form = new URLSearchParams(parameters);
  if (method === "GET") url.search = form.toString();
  const answer = await withDeadline(deps.clock, REQUEST_TIMEOUT_MS, deps.signal, (signal) =>
    requestJson(url, { method, ...(method === "POST" ? { form } : {}) }, signal),
  );
  if (answer.timedOut) throw new HoldfastError("timed_out", `${http} did not answer in time.`);
  return answer.value;
}

async function requestJson(
  url: URL,
  { method, form }: { readonly method: "GET" | "POST"; readonly form?: URLSearchParams },
  signal: AbortSignal,
): Promise<JsonObject> {
  const { origin } = url; // The rest of the URL holds the signature.
  try {
    const response = await fetch(url, {
      ...{ method, signal, redirect: "error", headers: { connection: "close" } },
      ...(form ? { body: form } : {}),
    });
    const value = parseJson(await boundedBody(response, origin), ANSWER_BOUNDS);
    if (isJsonObject(value)) return value;
  } catch (cause) {
    if (isHoldfastError(cause, "json_invalid")) throw notAnAnswer(origin, cause);
    if (isHoldfastError(cause)) throw cause;
    throw new HoldfastError("unreachable", `${origin} cannot be reached.`, { cause });
  }
  throw notAnAnswer(origin);
}

export function notAnAnswer(http: string, cause?: unknown): HoldfastError {
  return new HoldfastError(
    "protocol_error",
    `What came from ${http} is not the answer of such a service. Check account.http.`,
    { cause },
  );
}

async function boundedBody(response: Response, origin: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > ANSWER_BOUNDS.maxBytes) throw notAnAnswer(origin); // Leaving the loop cancels.
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
