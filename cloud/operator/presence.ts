/**
 * Who is online, asked of the service: the status query of lmq-protocol 7.1, one device a request.
 * Where that is unknown for the moment, or the service has no such query, the notices say (notices.ts).
 *
 * The answer is the service's view of its TCP connections at that moment, so a device that lost its
 * power a minute ago may still count as online until its keep-alive ends. What the service does not
 * know is null here, never a guess.
 */
import type { Clock } from "../../agent/core/clock.ts";
import { HoldfastError } from "../../agent/core/errors.ts";
import type { JsonObject } from "../../agent/core/json.ts";
import { makeHttpSignature } from "../../agent/protocol/http-signature.ts";
import { askJson, notAnAnswer } from "./service-json.ts";

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
  readonly source: "status-query" | "notices" | "none";
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
  if (!account) return devices.map(unknownPresence);
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

/** Nobody knows of this device. */
export function unknownPresence(device: string): Presence {
  return { device, online: null, connections: null, source: "none" };
}

async function queryOne(
  device: string,
  account: Account,
  deps: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<Presence> {
  const { http, accessKey, instanceId } = account;
  // lmq-protocol 7.1 with the signature of 4.4; here the access key is among the signed ones.
  const timestamp = String(deps.clock.wallMs());
  const signed = { accessKey, instanceId, resource: device, timestamp };
  const parameters = { ...signed, signature: makeHttpSignature(account.secret(), signed) };
  const request = { http, path: "/route/clientId/get", method: "GET", parameters } as const;
  return readAnswer(device, await askJson(request, deps), http);
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
