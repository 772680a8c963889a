/**
 * Token mode: what a set of tokens opens, and for how long (lmq-protocol 4.1, 4.2, 4.5, 4.6).
 *
 * - At CONNECT any bad token spoils the whole set.
 * - On a connection each publish needs one living token that was given for writing (W or RW), allows
 *   it and covers the topic; each subscribe the same for reading. One that suffices is enough: a
 *   device that uploads an RW token need not keep its R token alive.
 * - Where none suffices, the code is the one that a new token mends (2, 3), before "not this
 *   resource" (4), before "not this action" (5).
 */
import { isJsonObject, type JsonValue, parseJson } from "../../agent/core/json.ts";
import type { ClientId } from "../../agent/protocol/client-id.ts";
import { type Decision, type Denial, deny, type TokenPrincipal } from "./decision.ts";
import type { Directory } from "./directory.ts";
import { coversFilter, coversTopic } from "./resources.ts";
import {
  type TokenFault,
  type TokenGrant,
  type TokenKeeper,
  type TokenNotice,
  type TokenType,
  tokenFault,
  tokenTypes,
} from "./token-port.ts";

export interface TokenConnect {
  readonly accessKey: string;
  readonly clientId: ClientId;
  readonly password: string;
}

/** Longest `$SYS/uploadToken` payload that is read, in bytes: that of any message. */
const UPLOAD_BYTES = 65_536;

/** What is wrong, in words for the log. */
const MEANING: Readonly<Record<TokenFault, string>> = {
  [tokenFault.forged]: "A token was not issued by this service, or cannot be read.",
  [tokenFault.expired]: "A token has expired.",
  [tokenFault.revoked]: "A token was revoked.",
  [tokenFault.resource]: "The tokens do not cover this topic.",
  [tokenFault.action]: "The tokens do not allow this action.",
  [tokenFault.signature]: "The secret of the token's account was changed since it was issued.",
  [tokenFault.permission]: "The account has no right to this.",
};

/** lmq-protocol 4.2: `<type>|<token>`, one to three times, joined with `|`. */
export function decideTokenConnect(
  directory: Directory,
  keeper: TokenKeeper,
  request: TokenConnect,
): Decision<{ readonly principal: TokenPrincipal }> {
  const { accessKey, clientId, password } = request;
  const pairs = readPairs(password);
  if (!pairs) return refuse({ code: tokenFault.forged, type: "RW" });
  const tokens = new Map<TokenType, TokenGrant>();
  for (const [type, text] of pairs) {
    const grant = openFor(directory, keeper, accessKey, text);
    if (typeof grant === "number") return refuse({ code: grant, type });
    tokens.set(type, grant);
  }
  return { allow: true, principal: { mode: "token", accessKey, clientId, tokens } };
}

/** lmq-protocol 4.5. `type`: which of the tokens is new, for its expiry notice. */
export function decideUpload(
  directory: Directory,
  keeper: TokenKeeper,
  request: { readonly principal: TokenPrincipal; readonly payload: Uint8Array },
): Decision<{ readonly principal: TokenPrincipal; readonly type: TokenType }> {
  const { principal, payload } = request;
  const { type, token } = readUpload(payload);
  if (!type || token === undefined) {
    return refuse({ code: tokenFault.forged, type: type ?? "RW" });
  }
  const grant = openFor(directory, keeper, principal.accessKey, token);
  if (typeof grant === "number") return refuse({ code: grant, type });
  const tokens = new Map(principal.tokens).set(type, grant);
  return { allow: true, principal: { ...principal, tokens }, type };
}

/** A topic outside `$SYS`, of the right form. */
export function decideTokenPublish(
  directory: Directory,
  keeper: TokenKeeper,
  request: { readonly principal: TokenPrincipal; readonly topic: string; readonly parent: string },
): Decision {
  const { principal, topic, parent } = request;
  const covers = (resource: string): boolean => coversTopic(resource, topic);
  return decideUse(directory, keeper, { principal, parent, action: "W", covers });
}

/** A filter outside `$SYS`, of the right form. */
export function decideTokenSubscribe(
  directory: Directory,
  keeper: TokenKeeper,
  request: { readonly principal: TokenPrincipal; readonly filter: string; readonly parent: string },
): Decision {
  const { principal, filter, parent } = request;
  const covers = (resource: string): boolean => coversFilter(resource, filter);
  return decideUse(directory, keeper, { principal, parent, action: "R", covers });
}

/**
 * Whether messages may still be sent to this client: one of its tokens for reading is alive, or,
 * where it has none of those and gets P2P alone, any token.
 */
export function decideTokenReceive(keeper: TokenKeeper, principal: TokenPrincipal): Decision {
  const all = [...principal.tokens];
  const readers = all.filter(([type]) => type.includes("R"));
  let notice: TokenNotice | undefined;
  for (const [type, grant] of readers.length > 0 ? readers : all) {
    const code = keeper.faultOf(grant);
    if (code === undefined) return { allow: true };
    notice ??= { code, type };
  }
  return refuse(notice ?? { code: tokenFault.action, type: "R" });
}

/** What a revocation leaves alive: every token of a session must be unrevoked. */
export function decideTokensKept(keeper: TokenKeeper, principal: TokenPrincipal): Decision {
  for (const [type, grant] of principal.tokens) {
    const code = keeper.faultOf(grant);
    if (code === tokenFault.revoked) return refuse({ code, type });
  }
  return { allow: true };
}

function decideUse(
  directory: Directory,
  keeper: TokenKeeper,
  request: {
    readonly principal: TokenPrincipal;
    readonly parent: string;
    readonly action: "R" | "W";
    readonly covers: (resource: string) => boolean;
  },
): Decision {
  const { principal, parent, action, covers } = request;
  let worst: TokenNotice = { code: tokenFault.action, type: action };
  for (const [type, grant] of principal.tokens) {
    if (!type.includes(action)) continue;
    const code = faultOfUse(keeper, grant, action, covers);
    if (code === undefined) {
      return directory.topics.has(parent)
        ? { allow: true }
        : refuse({ code: tokenFault.permission, type });
    }
    if (rank(code) >= rank(worst.code)) worst = { code, type };
  }
  return refuse(worst);
}

function faultOfUse(
  keeper: TokenKeeper,
  grant: TokenGrant,
  action: "R" | "W",
  covers: (resource: string) => boolean,
): TokenFault | undefined {
  const code = keeper.faultOf(grant);
  if (code !== undefined) return code;
  if (!grant.actions.includes(action)) return tokenFault.action;
  return grant.resources.some(covers) ? undefined : tokenFault.resource;
}

function rank(code: TokenFault): number {
  if (code === tokenFault.action) return 0;
  return code === tokenFault.resource ? 1 : 2;
}

/** The grant, alive and of this account and instance, or what is wrong with it. */
function openFor(
  directory: Directory,
  keeper: TokenKeeper,
  accessKey: string,
  text: string,
): TokenGrant | TokenFault {
  const grant = keeper.open(text);
  if (typeof grant === "number") return grant;
  if (grant.accessKey !== accessKey || grant.instanceId !== directory.instanceId) {
    return tokenFault.permission;
  }
  return keeper.faultOf(grant) ?? grant;
}

/** Undefined for what is not one to three pairs of different types. */
function readPairs(password: string): ReadonlyMap<TokenType, string> | undefined {
  const parts = password.split("|");
  if (parts.length % 2 !== 0 || parts.length > 2 * tokenTypes.length) return undefined;
  const pairs = new Map<TokenType, string>();
  for (let i = 0; i < parts.length; i += 2) {
    const type = readType(parts[i]);
    const token = parts[i + 1];
    if (!type || !token || pairs.has(type)) return undefined;
    pairs.set(type, token);
  }
  return pairs;
}

function readUpload(payload: Uint8Array): {
  readonly type?: TokenType | undefined;
  readonly token?: string | undefined;
} {
  let json: JsonValue;
  try {
    json = parseJson(payload, { maxBytes: UPLOAD_BYTES, maxDepth: 4 });
  } catch {
    return {}; // Not JSON within the bounds: as unparsable as any other.
  }
  if (!isJsonObject(json)) return {};
  const { type, token } = json;
  return { type: readType(type), token: typeof token === "string" ? token : undefined };
}

function readType(value: unknown): TokenType | undefined {
  return tokenTypes.find((type) => type === value);
}

function refuse(notice: TokenNotice): Denial {
  const { code } = notice;
  const aboutUse: readonly TokenFault[] = [
    tokenFault.resource,
    tokenFault.action,
    tokenFault.permission,
  ];
  const denied = aboutUse.includes(code) ? "no_permission" : "not_authorized";
  return deny(denied, MEANING[code], notice);
}
