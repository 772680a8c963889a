/**
 * An HTTP/1.1 server that a hostile or broken local program cannot hurt: everything it may cost is
 * bounded. Number of connections, header size, body size, bytes of all bodies together, requests
 * in hand, time for a request to arrive, time for an answer, silence on a connection.
 *
 * - An answer may come before the body has been read (413): it is sent at once, then the rest of
 *   the body is let run dry within a bound, so that the client gets to read it, then the
 *   connection closes.
 * - What is not HTTP is answered 400 behind the answers that are due before it, then closed.
 * - Stopping: no new connections, requests in hand are finished until the deadline.
 */
import {
  createServer,
  type IncomingMessage as HttpRequest,
  type Server,
  type ServerResponse,
} from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { type Clock, withDeadline } from "../core/clock.ts";
import { HoldfastError, isHoldfastError } from "../core/errors.ts";
import type { ErrorLog } from "./error-log.ts";
import { errorBody, httpStatusOf } from "./http-status.ts";
import { type BodyBudget, busyMessage, checkDeclaredLength, readBody } from "./request-body.ts";
import { parseTarget, type Target } from "./request-target.ts";

export interface ServerLimits {
  readonly connections: number;
  readonly requestsInHand: number;
  readonly headerBytes: number;
  /** From the first byte of a request to its last. */
  readonly requestTimeoutMs: number;
  /** From the request to the answer; then 504, and what was begun goes on. */
  readonly answerTimeoutMs: number;
  /** Without a byte in either direction. */
  readonly silenceMs: number;
  /** How much of a body that nobody wants is read, and for how long, before the connection closes. */
  readonly lingerBytes: number;
  readonly lingerMs: number;
}

export interface Exchange extends Target {
  readonly method: string;
  /** The body, once; throws `payload_too_large`, `too_many`, `connection_lost`. */
  body(maxBytes: number): Promise<Uint8Array>;
}

export interface Answer {
  readonly status: number;
  readonly type: string;
  readonly text: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export type Handler = (exchange: Exchange) => Promise<Answer>;

interface ServerDeps {
  readonly clock: Clock;
  readonly errors: ErrorLog;
  readonly budget: BodyBudget;
  readonly handler: Handler;
}

const RETRY_AFTER_S = "1";

export class BoundedServer {
  readonly #limits: ServerLimits;
  readonly #deps: ServerDeps;
  readonly #inHand = new Map<HttpRequest, Promise<void>>();
  readonly #broken = new WeakSet<Duplex>();
  #server: Server | undefined;
  #stopping = false;

  constructor(limits: ServerLimits, deps: ServerDeps) {
    this.#limits = limits;
    this.#deps = deps;
  }

  async listen(path: string): Promise<void> {
    const { requestTimeoutMs, headerBytes, connections, silenceMs } = this.#limits;
    const server = createServer({
      maxHeaderSize: headerBytes,
      headersTimeout: requestTimeoutMs,
      requestTimeout: requestTimeoutMs,
      keepAliveTimeout: silenceMs,
      connectionsCheckingInterval: Math.min(1_000, Math.ceil(requestTimeoutMs / 4)),
    });
    server.maxConnections = connections;
    server.setTimeout(silenceMs, (socket) => socket.destroy());
    server.on("request", (request, response) => this.#take(request, response, false));
    server.on("checkContinue", (request, response) => this.#take(request, response, true));
    server.on("clientError", (error, socket) => void this.#refuse(error, socket));
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ path }, () => {
        server.off("error", reject);
        server.on("error", (error) => this.#deps.errors.add("listener failed", error));
        resolve();
      });
    });
  }

  async stop(deadline: AbortSignal): Promise<void> {
    this.#stopping = true;
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    const aborted = new Promise<void>((resolve) => {
      if (deadline.aborted) resolve();
      deadline.addEventListener("abort", () => resolve(), { once: true });
    });
    await Promise.race([Promise.all(this.#inHand.values()), aborted]);
    server.closeAllConnections();
    await closed;
  }

  #take(request: HttpRequest, response: ServerResponse, expectsContinue: boolean): void {
    const work = this.#serve(request, response, expectsContinue)
      .catch((error: unknown) => {
        this.#deps.errors.add("answer failed", error);
        request.destroy();
      })
      .finally(() => this.#inHand.delete(request));
    this.#inHand.set(request, work);
  }

  async #serve(request: HttpRequest, response: ServerResponse, waits: boolean): Promise<void> {
    let answer: Answer;
    try {
      if (this.#stopping) throw new HoldfastError("stopped", "The agent is stopping.");
      if (this.#inHand.size >= this.#limits.requestsInHand) {
        throw new HoldfastError("too_many", busyMessage);
      }
      answer = await this.#answerInTime(request, response, waits);
    } catch (error) {
      if (httpStatusOf(error) === 500) {
        const shown = `${request.method} ${request.url?.slice(0, 100)}`;
        this.#deps.errors.add("request failed", error, shown);
      }
      answer = errorAnswer(error);
    }
    await this.#send(request, response, answer);
  }

  async #answerInTime(
    request: HttpRequest,
    response: ServerResponse,
    waits: boolean,
  ): Promise<Answer> {
    const never = new AbortController();
    const { answerTimeoutMs } = this.#limits;
    const outcome = await withDeadline(this.#deps.clock, answerTimeoutMs, never.signal, () =>
      this.#handle(request, response, waits),
    );
    if (!outcome.timedOut) return outcome.value;
    throw new HoldfastError(
      "timed_out",
      `No answer within ${answerTimeoutMs} ms. It is not known whether the request took effect.`,
    );
  }

  async #handle(request: HttpRequest, response: ServerResponse, waits: boolean): Promise<Answer> {
    const releases: (() => void)[] = [];
    try {
      const target = parseTarget(request.url ?? "/");
      return await this.#deps.handler({
        ...target,
        method: request.method ?? "",
        body: async (maxBytes) => {
          checkDeclaredLength(request, maxBytes);
          if (waits) response.writeContinue();
          const { bytes, release } = await readBody(request, maxBytes, this.#deps.budget);
          releases.push(release);
          return bytes;
        },
      });
    } finally {
      for (const release of releases) release();
    }
  }

  async #send(request: HttpRequest, response: ServerResponse, answer: Answer): Promise<void> {
    if (response.destroyed || request.socket.destroyed) return;
    const gone = new Promise<void>((resolve) => {
      response.once("close", resolve);
      response.once("finish", resolve);
    });
    const body = Buffer.from(answer.text, "utf8");
    // What has arrived with the head is parsed after the head: then nothing is early.
    if (!request.complete) await turn();
    const early = !request.complete;
    if (early || this.#stopping) response.setHeader("connection", "close");
    response.writeHead(answer.status, {
      "content-type": answer.type,
      "content-length": body.length,
      "cache-control": "no-store",
      ...answer.headers,
    });
    if (early) {
      response.write(body);
      await this.#runDry(request);
      response.end();
    } else response.end(body);
    await gone;
  }

  /** Reads on without keeping anything, until the body ends or enough was read. */
  async #runDry(request: HttpRequest): Promise<void> {
    const dry = new AbortController();
    let left = this.#limits.lingerBytes;
    const done = (): void => dry.abort();
    request.once("end", done).once("close", done).once("error", done);
    request.on("data", (chunk: Buffer) => {
      left -= chunk.length;
      if (left < 0) done();
    });
    request.resume();
    await this.#deps.clock.sleep(this.#limits.lingerMs, dry.signal);
  }

  /** What came is not HTTP, too large a head, or too slow. */
  async #refuse(error: Error, socket: Duplex): Promise<void> {
    if (this.#broken.has(socket)) return;
    this.#broken.add(socket);
    socket.pause();
    const due = [...this.#inHand].filter(([request]) => request.socket === socket);
    await Promise.all(due.filter(([request]) => request.complete).map(([, work]) => work));
    if (!socket.writable) return void socket.destroy();
    const { status, reason, message } = protocolError(error);
    const body = JSON.stringify({ error: { code: "request_invalid", message } });
    socket.write(
      `HTTP/1.1 ${status} ${reason}\r\nConnection: close\r\nContent-Type: application/json\r\n` +
        `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
    (socket as Socket).destroySoon();
  }
}

export function jsonAnswer(value: unknown, status = 200): Answer {
  return { status, type: "application/json", text: `${JSON.stringify(value)}\n` };
}

function errorAnswer(error: unknown): Answer {
  const status = httpStatusOf(error);
  const answer = jsonAnswer({ error: errorBody(error) }, status);
  const retry = isHoldfastError(error) && error.retryable && (status === 429 || status === 503);
  return retry ? { ...answer, headers: { "retry-after": RETRY_AFTER_S } } : answer;
}

function protocolError(error: Error): { status: number; reason: string; message: string } {
  const code: unknown = "code" in error ? error.code : undefined;
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return { status: 431, reason: "Too Large", message: "The head of the request is too large." };
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return { status: 408, reason: "Timeout", message: "The request did not arrive in time." };
    default:
      return { status: 400, reason: "Bad Request", message: "This is not HTTP/1.1." };
  }
}
