/**
 * Who is online, asked of the service: the status query of lmq-protocol 7.1, one device a request.
 *
 * The answer is the service's view of its TCP connections at that moment, so a device that lost its
 * power a minute ago may still count as online until its keep-alive ends. What the service does not
 * know is null here, never a guess.
 */
import { type Clock, withDeadline } from "../../agent/core/clock.ts";
import { HoldfastError, isHoldfastError } from "../../agent/core/errors.ts";
import { isJsonObject, type JsonObject, parseJson } from "../../agent/core/json.ts";
import { makeHttpSignature } from "../../agent/protocol/http-signature.ts";

const ANSWER_BOUNDS = { maxBytes: 16_384, maxDepth: 8 };
const REQUEST_TIMEOUT_MS = 10_000;
/** Requests under way at a time; the rest waits. */
const PARALLEL = 8;

/** Codes of lmq-protocol 7.1. */
const CODE_SUCCESS = 0;
const CODE_NO_PERMISSION = 3;

export interface Presence {
  /** The whole client id. */
  readonly device: string;
  /** Null: nobody knows. */
  readonly online: boolean | null;
  /** TCP connections; more than one hints at two devices with one client id. Null: unknown. */
  readonly connections: number | null;
  readonly source: "status-query" | "none";
  /** Why this one could not be asked, where the others could. */
  readonly error?: { readonly code: string; readonly message: string };
}

export interface Account {
  readonly accessKey: string;
  readonly secret: () => string;
  /** Base URL of the service's HTTP side. */
  readonly http: string;
  readonly instanceId: string;
}

/**
 * One entry for each device, in the order given. Throws `unreachable`, `timed_out`,
 * `rejected_by_service` (the account or the time of this machine is wrong), `protocol_error`.
 */
export async function queryPresence(
  devices: readonly string[],
  account: Account | undefined,
  deps: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<readonly Presence[]> {
  if (!account) return devices.map(unknown);
  const results: Presence[] = [];
  const failed = new AbortController();
  const signal = AbortSignal.any([deps.signal, failed.signal]);
  const waiting = devices.entries();
  const worker = async (): Promise<void> => {
    for (const [i, device] of waiting) {
      if (signal.aborted) return;
      results[i] = await queryOne(device, account, { clock: deps.clock, signal });
    }
  };
  try {
    await Promise.all(Array.from({ length: PARALLEL }, worker));
  } catch (error) {
    failed.abort();
    if (!deps.signal.aborted) throw error;
  }
  if (deps.signal.aborted) throw new HoldfastError("cancelled", "The query was cancelled.");
  return results;
}

function unknown(device: string): Presence {
  return { device, online: null, connections: null, source: "none" };
}

async function queryOne(
  device: string,
  account: Account,
  deps: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<Presence> {
  const url = statusQueryUrl(device, account, deps.clock.wallMs());
  const answer = await withDeadline(deps.clock, REQUEST_TIMEOUT_MS, deps.signal, (signal) =>
    requestJson(url, signal),
  );
  if (answer.timedOut) {
    throw new HoldfastError("timed_out", `${account.http} did not answer in time.`);
  }
  return readAnswer(device, answer.value, account.http);
}

/** lmq-protocol 7.1 with the signature of 4.4; here the access key is among the signed ones. */
function statusQueryUrl(device: string, account: Account, timestampMs: number): string {
  const signed = {
    accessKey: account.accessKey,
    instanceId: account.instanceId,
    resource: device,
    timestamp: String(timestampMs),
  };
  const signature = makeHttpSignature(account.secret(), signed);
  const url = new URL(`${account.http.replace(/\/+$/, "")}/route/clientId/get`);
  url.search = new URLSearchParams({ ...signed, signature }).toString();
  return url.href;
}

function readAnswer(device: string, answer: JsonObject, http: string): Presence {
  const { code, online, message } = answer;
  const said = typeof message === "string" ? message.slice(0, 200) : "";
  if (code === CODE_NO_PERMISSION) {
    const error = {
      code: "forbidden",
      message: `The account has no right to this client id. ${said}`.trim(),
    };
    return { device, online: null, connections: null, source: "status-query", error };
  }
  if (typeof code !== "number") throw notAnAnswer(http);
  if (code !== CODE_SUCCESS) {
    throw new HoldfastError(
      "rejected_by_service",
      `${http} refused the status query with code ${code}: ${said || "no reason given"}. ` +
        "Check [account] and the clock of this machine.",
      { details: { code } },
    );
  }
  if (typeof online !== "number" || !Number.isInteger(online)) throw notAnAnswer(http);
  // -1: the service does not know at the moment.
  if (online < 0) return { device, online: null, connections: null, source: "status-query" };
  return { device, online: online > 0, connections: online, source: "status-query" };
}

async function requestJson(url: string, signal: AbortSignal): Promise<JsonObject> {
  const { origin } = new URL(url); // The rest of the URL holds the signature.
  try {
    const response = await fetch(url, {
      signal,
      redirect: "error",
      headers: { connection: "close" },
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

function notAnAnswer(http: string, cause?: unknown): HoldfastError {
  return new HoldfastError(
    "protocol_error",
    `What came from ${http} is not the answer to a status query. Check account.http.`,
    { cause },
  );
}
