import type { ClientId } from "../../agent/protocol/client-id.ts";
import type { TokenGrant, TokenNotice, TokenType } from "./token-port.ts";

/** Why something is denied. The broker turns each into what the sheet says happens then. */
export type DenyCode =
  | "malformed" // breaks the form that MQTT or the sheet demands
  | "too_long" // a client id or a topic over its limit
  | "not_authorized" // the credentials are not, or no longer, those of an account of this instance
  | "unknown_group" // the group was not created on the instance
  | "no_permission"; // no such parent topic, or the tokens do not allow it

export interface Denial {
  readonly allow: false;
  readonly code: DenyCode;
  /** One sentence for the log of the service. */
  readonly message: string;
  /** Token mode: what the client is told before the connection is closed (lmq-protocol 4.6). */
  readonly notice?: TokenNotice;
}

export type Decision<T = object> = ({ readonly allow: true } & T) | Denial;

/** Proved the secret of the account: every topic of the instance is open to it. */
export interface SignaturePrincipal {
  readonly mode: "signature";
  readonly accessKey: string;
  readonly clientId: ClientId;
}

/** Proved nothing but that it bears these tokens: what they cover is open to it. */
export interface TokenPrincipal {
  readonly mode: "token";
  readonly accessKey: string;
  readonly clientId: ClientId;
  /** By the type under which each was given; at most one of a type. */
  readonly tokens: ReadonlyMap<TokenType, TokenGrant>;
}

/** Who is behind a connection, once proven. */
export type Principal = SignaturePrincipal | TokenPrincipal;

export function deny(code: DenyCode, message: string, notice?: TokenNotice): Denial {
  return { allow: false, code, message, ...(notice && { notice }) };
}
