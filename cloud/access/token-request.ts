/**
 * The decisions behind the token API: lmq-protocol 4.3 and 4.4. Form first (400), then the account
 * and its signature (407), so that nobody unproven gets further than the form.
 */
import { isHoldfastError } from "../../agent/core/errors.ts";
import {
  type SignedParameters,
  splitList,
  verifyHttpSignature,
} from "../../agent/protocol/http-signature.ts";
import { checkTopicFilter } from "../../agent/protocol/topics.ts";
import type { AccessLimits, Directory } from "./directory.ts";
import type { TokenType } from "./token-port.ts";

/** All values of each parameter, as they came, URL-decoded. */
export type Parameters = ReadonlyMap<string, readonly string[]>;

export interface TokenLimits {
  /** Resources of one token. */
  readonly tokenResources: number;
  /** In milliseconds. */
  readonly tokenMinLifeMs: number;
  readonly tokenMaxLifeMs: number;
}

export interface TokenRequestRefusal {
  readonly allow: false;
  readonly code: 400 | 407;
  readonly message: string;
}

export type TokenRequestDecision<T> = ({ readonly allow: true } & T) | TokenRequestRefusal;

export interface TokenApplication {
  readonly accessKey: string;
  readonly actions: TokenType;
  readonly resources: readonly string[];
  /** Unix milliseconds. */
  readonly expiresAt: number;
}

const APPLY = [
  ...["actions", "resources", "expireTime", "serviceName", "instanceId"],
  ...["proxyType", "accessKey", "signature"],
] as const;
const ABOUT_TOKEN = ["token", "accessKey", "signature"] as const;
const NO_SECRET = "no account has this secret";
/** "60 seconds from now" is less by the time it arrives: this part of the shortest life is let go. */
const ON_THE_WAY = 1 / 60;

/** `/token/apply`. A life over the longest is shortened to it (surface: token API). */
export function decideTokenApply(
  directory: Directory,
  limits: AccessLimits & TokenLimits,
  request: { readonly parameters: Parameters; readonly nowMs: number },
): TokenRequestDecision<TokenApplication> {
  const given = readAll(request.parameters, APPLY);
  if (typeof given === "string") return refuse(400, given);
  const { actions, resources, expireTime, serviceName, instanceId, accessKey } = given;
  const wanted = readActions(actions);
  if (!wanted) return refuse(400, "The actions are none of R, W and R,W.");
  const filters = splitList(resources);
  const bad = checkResources(filters, limits);
  if (bad) return refuse(400, bad);
  if (serviceName !== "mq") return refuse(400, "The serviceName is not mq.");
  if (given.proxyType !== "MQTT") return refuse(400, "The proxyType is not MQTT.");
  if (instanceId !== directory.instanceId) return refuse(400, "There is no such instance.");
  if (!/^\d{1,15}$/.test(expireTime)) {
    return refuse(400, "The expireTime is not a number of milliseconds.");
  }
  const lifeMs = Number(expireTime) - request.nowMs;
  if (lifeMs < limits.tokenMinLifeMs * (1 - ON_THE_WAY)) {
    return refuse(400, `A token lives at least ${limits.tokenMinLifeMs} ms.`);
  }
  const signed = {
    ...{ actions: splitList(actions), resources: filters },
    ...{ expireTime, serviceName, instanceId },
  };
  if (!isSigned(directory, accessKey, signed, given.signature)) return wrongSignature();
  const expiresAt = request.nowMs + Math.min(lifeMs, limits.tokenMaxLifeMs);
  return { allow: true, accessKey, actions: wanted, resources: filters, expiresAt };
}

/** `/token/revoke` and `/token/query`. */
export function decideAboutToken(
  directory: Directory,
  parameters: Parameters,
): TokenRequestDecision<{ readonly accessKey: string; readonly token: string }> {
  const given = readAll(parameters, ABOUT_TOKEN);
  if (typeof given === "string") return refuse(400, given);
  const { accessKey, token, signature } = given;
  if (!isSigned(directory, accessKey, { token }, signature)) return wrongSignature();
  return { allow: true, accessKey, token };
}

/** Each parameter once and not empty, or what is wrong. */
function readAll<Name extends string>(
  parameters: Parameters,
  names: readonly Name[],
): Readonly<Record<Name, string>> | string {
  const given: Partial<Record<Name, string>> = {};
  for (const name of names) {
    const values = parameters.get(name) ?? [];
    const [value] = values;
    if (!value) return `The parameter ${name} is missing.`;
    if (values.length > 1) return `The parameter ${name} is given more than once.`;
    given[name] = value;
  }
  return given as Record<Name, string>;
}

function readActions(text: string): TokenType | undefined {
  if (text === "R" || text === "W") return text;
  return text === "R,W" || text === "W,R" ? "RW" : undefined;
}

/** What is wrong with them. */
function checkResources(
  filters: readonly string[],
  limits: AccessLimits & TokenLimits,
): string | undefined {
  if (filters.length > limits.tokenResources) {
    return `A token has at most ${limits.tokenResources} resources.`;
  }
  for (const filter of filters) {
    try {
      checkTopicFilter(filter, limits.topicMax);
    } catch (error) {
      if (!isHoldfastError(error)) throw error;
      return `A resource is no topic and no filter. ${error.message}`;
    }
  }
  return undefined;
}

/** An account that does not exist costs as much as a wrong signature and is answered alike. */
function isSigned(
  directory: Directory,
  accessKey: string,
  parameters: SignedParameters,
  signature: string,
): boolean {
  const secret = directory.accounts.get(accessKey);
  const proven = verifyHttpSignature({ secret: secret ?? NO_SECRET, parameters, signature });
  return proven && secret !== undefined;
}

function wrongSignature(): TokenRequestRefusal {
  return refuse(407, "The signature is wrong.");
}

function refuse(code: 400 | 407, message: string): TokenRequestRefusal {
  return { allow: false, code, message };
}
