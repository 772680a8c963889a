/** What decisions need to know of tokens, and of whoever issues and revokes them. */

export const tokenTypes = ["R", "W", "RW"] as const;
export type TokenType = (typeof tokenTypes)[number];

/** The codes of `$SYS/tokenInvalidNotice` (lmq-protocol 4.6); 1 to 3 are also those of a query. */
export const tokenFault = {
  forged: 1,
  expired: 2,
  revoked: 3,
  resource: 4,
  action: 5,
  signature: 8,
  permission: -1,
} as const;
export type TokenFault = (typeof tokenFault)[keyof typeof tokenFault];

/** The body of `$SYS/tokenInvalidNotice`. */
export interface TokenNotice {
  readonly code: TokenFault;
  readonly type: TokenType;
}

/** What a token says, once it is known to be one of ours. */
export interface TokenGrant {
  /** Names it in the list of revoked tokens and in the log; nobody can connect with it. */
  readonly id: string;
  readonly accessKey: string;
  readonly instanceId: string;
  readonly actions: TokenType;
  /** Topics and filters. */
  readonly resources: readonly string[];
  /** Unix milliseconds, by the service's own time. */
  readonly expiresAt: number;
  /** Counts the times at which the service's clock went back; see tokens/token-time.ts. */
  readonly epoch: number;
}

/** Whoever keeps the tokens. What it answers holds at the moment it is asked. */
export interface TokenKeeper {
  /**
   * The grant, expired or not, or why the text is none: `forged`, `signature` when the secret of
   * its account was changed since, `permission` when there is no such account any more.
   */
  open(text: string): TokenGrant | TokenFault;
  /** `expired`, `revoked` or `permission`; undefined while it is alive. */
  faultOf(grant: TokenGrant): TokenFault | undefined;
}
