/**
 * The token API: `/token/apply`, `/token/query` and `/token/revoke` of lmq-protocol 4.3, by GET with
 * a query or by POST with a form of either kind.
 *
 * Every answer has HTTP status 200 with the code inside, for the vendor's own programs read the
 * body only then. Who is over a rate gets the code of what failed: 409 from apply, 410 from revoke;
 * query has none of that kind and says 400. Rates count per account, and only what it has signed.
 */
import type { Clock } from "../../agent/core/clock.ts";
import { describeError } from "../../agent/core/errors.ts";
import type { Logger } from "../../agent/core/log.ts";
import {
  type AccessLimits,
  type Directory,
  decideAboutToken,
  decideTokenApply,
  type TokenApplication,
  type TokenFault,
  type TokenGrant,
  type TokenLimits,
  tokenFault,
} from "../access/access.ts";
import { joinParameters, type Parameters, parseForm } from "./form.ts";
import { Rates } from "./rates.ts";
import type { HttpAnswer, HttpRequest, Route } from "./route.ts";

/** Requests of one account; 0 is any number. */
export interface TokenRates {
  readonly tokenAppliesPerSecond: number;
  readonly tokenQueriesPerSecond: number;
  readonly tokenRevokesPerMinute: number;
}

/** What the routes need of whoever keeps the tokens. */
export interface TokenService {
  /** Unix milliseconds by which tokens live. */
  nowMs(): number;
  issue(application: TokenApplication): { readonly id: string; readonly token: string };
  open(text: string): TokenGrant | TokenFault;
  faultOf(grant: TokenGrant): TokenFault | undefined;
  /** Resolves when it is on disk and no connection lives on this token. */
  revoke(grant: TokenGrant): Promise<void>;
}

export interface TokenRouteDeps {
  readonly directory: () => Directory;
  readonly limits: AccessLimits & TokenLimits & TokenRates;
  readonly tokens: TokenService;
  readonly clock: Clock;
  readonly log: Logger;
}

type Act = (parameters: Parameters) => HttpAnswer | Promise<HttpAnswer>;

/** Longer than this it would not fit the CONNECT that carries it, in characters. */
const TOKEN_CHARS = 16_000;
const TOO_MANY = "Too many requests of this account; try again later.";
const MEANING: Readonly<Partial<Record<TokenFault, string>>> = {
  [tokenFault.expired]: "The token has expired.",
  [tokenFault.revoked]: "The token was revoked.",
};

export function tokenRoutes(deps: TokenRouteDeps): readonly Route[] {
  const { limits, clock } = deps;
  const applies = new Rates({ most: limits.tokenAppliesPerSecond, perMs: 1_000 }, clock);
  const queries = new Rates({ most: limits.tokenQueriesPerSecond, perMs: 1_000 }, clock);
  const revokes = new Rates({ most: limits.tokenRevokesPerMinute, perMs: 60_000 }, clock);
  return [
    ...bothMethods("/token/apply", (parameters) => apply(deps, applies, parameters)),
    ...bothMethods("/token/query", (parameters) => query(deps, queries, parameters)),
    ...bothMethods("/token/revoke", (parameters) => revoke(deps, revokes, parameters)),
  ];
}

function apply(deps: TokenRouteDeps, rates: Rates, parameters: Parameters): HttpAnswer {
  const { directory, limits, tokens, log } = deps;
  const nowMs = tokens.nowMs();
  const decision = decideTokenApply(directory(), limits, { parameters, nowMs });
  if (!decision.allow) return failed(decision.code, decision.message);
  if (!rates.take(decision.accessKey)) return failed(409, TOO_MANY);
  const { id, token } = tokens.issue(decision);
  if (token.length > TOKEN_CHARS) {
    return failed(409, "The token would be too long; name fewer or shorter resources.");
  }
  const { accessKey, actions, resources, expiresAt } = decision;
  log.debug("token issued", { id, accessKey, actions, resources: resources.length, expiresAt });
  return done({ tokenData: token });
}

function query(deps: TokenRouteDeps, rates: Rates, parameters: Parameters): HttpAnswer {
  const decision = decideAboutToken(deps.directory(), parameters);
  if (!decision.allow) return failed(decision.code, decision.message);
  if (!rates.take(decision.accessKey)) return failed(400, TOO_MANY);
  const grant = openOwn(deps.tokens, decision);
  if (!grant) return failed(tokenFault.forged, "This is no token of the account.");
  const fault = deps.tokens.faultOf(grant);
  return fault === undefined ? done() : failed(fault, MEANING[fault] ?? "The token is void.");
}

async function revoke(
  deps: TokenRouteDeps,
  rates: Rates,
  parameters: Parameters,
): Promise<HttpAnswer> {
  const { directory, tokens, log } = deps;
  const decision = decideAboutToken(directory(), parameters);
  if (!decision.allow) return failed(decision.code, decision.message);
  if (!rates.take(decision.accessKey)) return failed(410, TOO_MANY);
  const grant = openOwn(tokens, decision);
  if (!grant) return failed(410, "This is no token of the account.");
  const fields = { id: grant.id, accessKey: grant.accessKey };
  try {
    await tokens.revoke(grant);
  } catch (error) {
    log.error("token not revoked", { ...fields, error: describeError(error) });
    return failed(410, "The revocation could not be recorded; the token is valid as before.");
  }
  log.info("token revoked", fields);
  return done();
}

/** Another account's token is none, as a forged one. */
function openOwn(
  tokens: TokenService,
  { accessKey, token }: { readonly accessKey: string; readonly token: string },
): TokenGrant | undefined {
  const grant = tokens.open(token);
  return typeof grant !== "number" && grant.accessKey === accessKey ? grant : undefined;
}

function bothMethods(path: string, act: Act): readonly Route[] {
  const wrongMethod = failed(400, "Only GET and POST are answered here.");
  const handle = async (request: HttpRequest): Promise<HttpAnswer> => {
    const parameters = await readParameters(request);
    return parameters ? act(parameters) : failed(400, "The parameters cannot be read.");
  };
  return (["GET", "POST"] as const).map((method) => ({ method, path, wrongMethod, handle }));
}

async function readParameters({ parameters, headers, body }: HttpRequest) {
  const form = body.length > 0 ? await parseForm(body, headers["content-type"]) : new Map();
  return parameters && form && joinParameters(parameters, form);
}

function done(more: { readonly tokenData?: string } = {}): HttpAnswer {
  return { status: 200, body: { success: true, message: "operation success", code: 200, ...more } };
}

function failed(code: number, message: string): HttpAnswer {
  return { status: 200, body: { success: false, message, code } };
}
