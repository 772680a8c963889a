/** The decision behind the status query: lmq-protocol 7.1. */

import { isClientId, parseClientId } from "../../agent/protocol/client-id.ts";
import { verifyHttpSignature } from "../../agent/protocol/http-signature.ts";
import type { AccessLimits, Directory } from "./directory.ts";

export interface StatusRequest {
  /** All values of each parameter, as they came, URL-decoded. */
  readonly parameters: ReadonlyMap<string, readonly string[]>;
  readonly nowMs: number;
}

/** `code` and `http` as in the tables of lmq-protocol 7.1. */
export type StatusDecision =
  | { readonly allow: true; readonly clientId: string }
  | {
      readonly allow: false;
      readonly code: 1 | 2 | 3 | 4;
      readonly http: 400 | 403;
      readonly message: string;
    };

const SIGNED = ["accessKey", "resource", "timestamp", "instanceId"] as const;
const NO_SECRET = "no account has this secret";

/**
 * Form first, then the signature, then the time, then the right: nobody unproven learns which
 * groups exist.
 */
export function decideStatus(
  directory: Directory,
  limits: AccessLimits,
  request: StatusRequest,
): StatusDecision {
  const given: Record<string, string> = {};
  for (const name of [...SIGNED, "signature"]) {
    const values = request.parameters.get(name) ?? [];
    const [value] = values;
    if (!value) return refuse(1, 400, `The parameter ${name} is missing.`);
    if (values.length > 1) return refuse(1, 400, `The parameter ${name} is given more than once.`);
    given[name] = value;
  }
  const { accessKey, resource, timestamp, instanceId, signature } = given as Record<
    (typeof SIGNED)[number] | "signature",
    string
  >;
  if (!/^\d{1,15}$/.test(timestamp)) {
    return refuse(1, 400, "The timestamp is not a number of milliseconds.");
  }
  const secret = directory.accounts.get(accessKey);
  const proven = verifyHttpSignature({
    secret: secret ?? NO_SECRET,
    parameters: { accessKey, resource, timestamp, instanceId },
    signature,
  });
  if (secret === undefined || !proven) return refuse(2, 403, "The signature is wrong.");
  if (Math.abs(Number(timestamp) - request.nowMs) > limits.timestampWindowMs) {
    return refuse(4, 403, "The timestamp is too far from the time of the service.");
  }
  const group = isClientId(resource, "lmq") ? parseClientId(resource, "lmq").group : undefined;
  if (instanceId !== directory.instanceId || !group || !directory.groups.has(group)) {
    return refuse(3, 403, "The account does not own the group of this client id.");
  }
  return { allow: true, clientId: resource };
}

function refuse(code: 1 | 2 | 3 | 4, http: 400 | 403, message: string): StatusDecision {
  return { allow: false, code, http, message };
}
