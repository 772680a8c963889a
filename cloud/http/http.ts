/**
 * The HTTP side of the service: the status query of lmq-protocol 7.1 and the token API of 4.3, by a
 * table of routes to which the MQ side is added.
 *
 * Invariants
 * - Headers, bodies, the time for both and the number of connections are bounded; what is over is
 *   answered where HTTP has an answer, and cut off.
 * - A handler gets the parameters decoded and the whole body, and returns the answer: status and
 *   JSON. It never sees the socket.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { describeError, HoldfastError } from "../../agent/core/errors.ts";
import type { Logger } from "../../agent/core/log.ts";
import { discardRest, readBody } from "./body.ts";

import { type Parameters, parsePairs } from "./form.ts";
import type { HttpAnswer, Route } from "./route.ts";

export type { HttpAnswer, HttpRequest, Route } from "./route.ts";
export { statusRoute } from "./status-route.ts";
export { type TokenRates, tokenRoutes } from "./token-routes.ts";

export interface HttpOptions {
  readonly host: string;
  readonly port: number;
  /** Within this a request must have come, headers and body, in milliseconds. */
  readonly requestMs: number;
}

const HEADER_BYTES = 16_384;
/** Twice a payload, the largest thing that anyone sends; times the connections it is memory. */
const BODY_BYTES = 131_072;
const CONNECTIONS = 1_000;

export class HttpSide {
  readonly #options: HttpOptions;
  readonly #routes: readonly Route[];
  readonly #log: Logger;
  readonly #inHand = new Set<AbortController>();
  #server: Server | undefined;

  constructor(
    options: HttpOptions,
    deps: { readonly routes: readonly Route[]; readonly log: Logger },
  ) {
    this.#options = options;
    this.#routes = deps.routes;
    this.#log = deps.log;
  }

  /** Where it listens; port 0 in the options is any free port. */
  async start(): Promise<{ host: string; port: number }> {
    const { host, port, requestMs } = this.#options;
    const server = createServer(
      {
        maxHeaderSize: HEADER_BYTES,
        headersTimeout: requestMs,
        requestTimeout: requestMs,
        keepAliveTimeout: requestMs,
        connectionsCheckingInterval: Math.min(1_000, requestMs),
      },
      (request, response) => void this.#answer(request, response),
    );
    server.maxConnections = CONNECTIONS;
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause) =>
        reject(new HoldfastError("listen_failed", `Cannot listen on ${host}:${port}.`, { cause })),
      );
      server.listen({ host, port }, resolve);
    });
    return { host, port: (server.address() as AddressInfo).port };
  }

  /** Lets running requests finish until `deadline` aborts. */
  async stop(deadline: AbortSignal): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const gone of this.#inHand) gone.abort();
    server.closeIdleConnections();
    const cut = (): void => server.closeAllConnections();
    if (deadline.aborted) cut();
    else deadline.addEventListener("abort", cut, { once: true });
    await closed;
    deadline.removeEventListener("abort", cut);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let answer: HttpAnswer;
    try {
      answer = await this.#handle(request, response);
    } catch (error) {
      if (request.errored) return; // The peer is gone: nobody waits for an answer.
      this.#log.error("request failed", { path: pathOf(request), error: describeError(error) });
      answer = failure(500, "failed", "The service failed to answer; its log says why.");
    }
    const bytes = Buffer.from(JSON.stringify(answer.body));
    response.writeHead(answer.status, {
      "content-type": "application/json",
      "content-length": bytes.length,
      // The rest of a body that was refused is not worth reading, nor is there more after a stop.
      ...(request.complete && this.#server ? {} : { connection: "close" }),
    });
    response.write(bytes);
    if (!request.complete) await discardRest(request);
    response.end();
  }

  /** Aborts with the connection, or when the service stops. */
  #handling(response: ServerResponse): AbortController {
    const gone = new AbortController();
    this.#inHand.add(gone);
    response.once("close", () => {
      this.#inHand.delete(gone);
      gone.abort();
    });
    return gone;
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<HttpAnswer> {
    const path = pathOf(request);
    const routes = this.#routes.filter((one) => one.path === path);
    const [first] = routes;
    if (!first) return failure(404, "not_found", "There is nothing at this path.");
    const route = routes.find(({ method }) => method === request.method);
    if (!route) return first.wrongMethod;
    const body = await readBody(request, BODY_BYTES);
    if (!body) return failure(413, "payload_too_large", `A body has at most ${BODY_BYTES} bytes.`);
    const { headers } = request;
    const { signal } = this.#handling(response);
    return route.handle({ parameters: queryOf(request), headers, body, signal });
  }
}

function failure(status: number, code: string, message: string): HttpAnswer {
  return { status, body: { error: { code, message } } };
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? "").split("?", 1)[0] as string;
}

/** Undefined for an escape that is none, or one that gives no UTF-8. */
function queryOf(request: IncomingMessage): Parameters | undefined {
  const url = request.url ?? "";
  const at = url.indexOf("?");
  return parsePairs(at < 0 ? "" : url.slice(at + 1));
}
