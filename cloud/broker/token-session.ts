/**
 * The token side of one connection in token mode (lmq-protocol 4.5 and 4.6): which tokens are in
 * force, when the client is told that one will expire, and what ends when one has.
 *
 * The expiry notice is sent once for each token, `noticeAheadMs` before its end, or at once when
 * less is left; never for one that has expired. Expiry by itself closes nothing: the next publish or
 * subscribe does, or the next message that would be sent to the client.
 */
import {
  type Denial,
  type Directory,
  decideTokenReceive,
  decideTokensKept,
  decideUpload,
  type TokenGrant,
  type TokenKeeper,
  type TokenNotice,
  type TokenPrincipal,
  type TokenType,
} from "../access/access.ts";
import type { Deadline, Deadlines } from "./deadlines.ts";
import { writePublish } from "./packets.ts";

/** Who keeps the tokens, with the time by which they live. */
export type TimedKeeper = TokenKeeper & { nowMs(): number };

export interface TokenSessionDeps {
  readonly directory: () => Directory;
  readonly keeper: TimedKeeper;
  readonly deadlines: Deadlines;
  readonly write: (bytes: Buffer) => void;
  /** A token has expired: what waits for the client needs a look. */
  readonly expired: () => void;
}

/** The time of tokens may be set; so often the waiting is measured anew, in milliseconds. */
const LOOK_MS = 60_000;

export class TokenSession {
  readonly #noticeAheadMs: number;
  readonly #deps: TokenSessionDeps;
  #principal: TokenPrincipal;
  /** By type and id of the token: what was told or done about its end. */
  readonly #told = new Map<string, "expiring" | "expired">();
  #deadline: Deadline | undefined;

  constructor(
    options: { readonly principal: TokenPrincipal; readonly noticeAheadMs: number },
    deps: TokenSessionDeps,
  ) {
    this.#principal = options.principal;
    this.#noticeAheadMs = options.noticeAheadMs;
    this.#deps = deps;
  }

  get principal(): TokenPrincipal {
    return this.#principal;
  }

  /** The client may be written to from now on. */
  start(): void {
    this.#look();
  }

  stop(): void {
    this.#deps.deadlines.cancel(this.#deadline);
  }

  /** The payload of a publish to `$SYS/uploadToken`: in force when this returns, or denied. */
  upload(payload: Uint8Array): Denial | undefined {
    const { directory, keeper } = this.#deps;
    const decision = decideUpload(directory(), keeper, { principal: this.#principal, payload });
    if (!decision.allow) return decision;
    this.#principal = decision.principal;
    const inForce = new Set([...this.#principal.tokens].map(([type, grant]) => keyOf(type, grant)));
    for (const key of this.#told.keys()) if (!inForce.has(key)) this.#told.delete(key);
    this.stop();
    this.#look();
    return undefined;
  }

  /** Why nothing may be sent to the client. */
  deniedToReceive(): Denial | undefined {
    return denialOf(decideTokenReceive(this.#deps.keeper, this.#principal));
  }

  /** A token was revoked somewhere: why this connection ends with it. */
  deniedByRevocation(): Denial | undefined {
    return denialOf(decideTokensKept(this.#deps.keeper, this.#principal));
  }

  /** Tells and does what is due, then waits for what comes next. */
  #look(): void {
    const nowMs = this.#deps.keeper.nowMs();
    let nextMs = Number.POSITIVE_INFINITY;
    let hasExpired = false;
    for (const [type, grant] of this.#principal.tokens) {
      const leftMs = grant.expiresAt - nowMs;
      const key = keyOf(type, grant);
      if (this.#told.get(key) === "expired") continue;
      if (leftMs <= 0) {
        this.#told.set(key, "expired");
        hasExpired = true;
        continue;
      }
      if (leftMs <= this.#noticeAheadMs) this.#tell(type, grant);
      nextMs = Math.min(nextMs, this.#told.has(key) ? leftMs : leftMs - this.#noticeAheadMs);
    }
    if (Number.isFinite(nextMs)) {
      const waitMs = Math.min(nextMs, LOOK_MS);
      this.#deadline = this.#deps.deadlines.after(waitMs, () => this.#look());
    }
    if (hasExpired) this.#deps.expired();
  }

  #tell(type: TokenType, grant: TokenGrant): void {
    const key = keyOf(type, grant);
    if (this.#told.has(key)) return;
    this.#told.set(key, "expiring");
    const body = { expireTime: grant.expiresAt, type };
    this.#deps.write(control("$SYS/tokenExpireNotice", body));
  }
}

/** The packet that says why the connection is about to be closed (lmq-protocol 4.6). */
export function writeInvalidNotice({ code, type }: TokenNotice): Buffer {
  return control("$SYS/tokenInvalidNotice", { code, type });
}

function keyOf(type: TokenType, { id }: TokenGrant): string {
  return `${type}|${id}`;
}

/** QoS 0: neither is guaranteed to arrive, and nobody subscribes to them. */
function control(topic: string, body: object): Buffer {
  const payload = Buffer.from(JSON.stringify(body));
  return writePublish({ topic, payload, qos: 0, dup: false, packetId: 0 });
}

function denialOf(decision: { readonly allow: true } | Denial): Denial | undefined {
  return decision.allow ? undefined : decision;
}
