/**
 * Tokens for devices, asked of the service with the commander's account: lmq-protocol 4.3. The
 * service decides; what is checked here is only what would be signed differently than meant.
 */
import type { Clock } from "../../agent/core/clock.ts";
import { HoldfastError } from "../../agent/core/errors.ts";
import type { JsonObject } from "../../agent/core/json.ts";
import { makeHttpSignature } from "../../agent/protocol/http-signature.ts";
import type { Account } from "./presence.ts";
import { askJson, notAnAnswer } from "./service-json.ts";

export interface TokenOrder {
  readonly actions: readonly ("R" | "W")[];
  /** Topics and filters; none has a comma. */
  readonly resources: readonly string[];
  readonly expiresInMs: number;
}

/** What a query says of a token. */
export type TokenState = "valid" | "forged" | "expired" | "revoked";

const DONE = 200;
const STATES = new Map<unknown, TokenState>([
  [DONE, "valid"],
  [1, "forged"],
  [2, "expired"],
  [3, "revoked"],
]);

/**
 * The account's side of the token API. Every call throws `unreachable`, `timed_out`,
 * `protocol_error`, or `rejected_by_service` with the service's code in the details.
 */
export class TokenDesk {
  readonly #account: Account;
  readonly #clock: Clock;

  constructor(account: Account, deps: { readonly clock: Clock }) {
    this.#account = account;
    this.#clock = deps.clock;
  }

  /** `expiresAt`: what was asked for, Unix milliseconds; the service shortens what is too long. */
  async apply(
    { actions, resources, expiresInMs }: TokenOrder,
    signal: AbortSignal,
  ): Promise<{ readonly token: string; readonly expiresAt: number }> {
    const expiresAt = this.#clock.wallMs() + expiresInMs;
    const signed = {
      actions: [...actions].sort(),
      resources: [...resources],
      expireTime: String(expiresAt),
      serviceName: "mq",
      instanceId: this.#account.instanceId,
    };
    const signature = makeHttpSignature(this.#account.secret(), signed);
    const answer = await this.#ask("/token/apply", signal, {
      ...signed,
      ...{ actions: signed.actions.join(","), resources: signed.resources.join(",") },
      ...{ proxyType: "MQTT", signature },
    });
    const { code, tokenData } = answer;
    if (code !== DONE) throw this.#rejection("issue the token", answer);
    if (typeof tokenData !== "string" || tokenData === "") throw notAnAnswer(this.#account.http);
    return { token: tokenData, expiresAt };
  }

  async query(token: string, signal: AbortSignal): Promise<TokenState> {
    const answer = await this.#ask("/token/query", signal, this.#aboutToken(token));
    const state = STATES.get(answer["code"]);
    if (!state) throw this.#rejection("answer for the token", answer);
    return state;
  }

  async revoke(token: string, signal: AbortSignal): Promise<void> {
    const answer = await this.#ask("/token/revoke", signal, this.#aboutToken(token));
    if (answer["code"] !== DONE) throw this.#rejection("revoke the token", answer);
  }

  #aboutToken(token: string): { readonly token: string; readonly signature: string } {
    return { token, signature: makeHttpSignature(this.#account.secret(), { token }) };
  }

  #ask(
    path: string,
    signal: AbortSignal,
    parameters: Readonly<Record<string, string>>,
  ): Promise<JsonObject> {
    const { http, accessKey } = this.#account;
    const request = {
      http,
      path,
      method: "POST",
      parameters: { ...parameters, accessKey },
    } as const;
    return askJson(request, { clock: this.#clock, signal });
  }

  #rejection(what: string, { code, message }: JsonObject): HoldfastError {
    const { http } = this.#account;
    if (typeof code !== "number") return notAnAnswer(http);
    const said = typeof message === "string" ? message.slice(0, 200) : "no reason given";
    return new HoldfastError(
      "rejected_by_service",
      `${http} did not ${what}, code ${code}: ${said}`,
      { details: { code } },
    );
  }
}
