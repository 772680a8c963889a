/**
 * The one connection to the service.
 *
 * A `Session` is a loop: attempt, stay online, end, wait as the policy says, again. Every connection
 * is new from the socket up (attempt.ts); what outlives it is the inbox with its ledger of QoS 2
 * (inbound.ts) and the history that the policy decides on (reconnect-policy.ts).
 *
 *   idle ──start──> connecting ──online──> online ──ended──> backing-off ──waited──> connecting ...
 *                       └──failed──> backing-off     └──refused (4, 5)──> refused ──waited──┘
 *   any ──stop──> stopped
 *
 * Invariants
 * - At most one connection at any time, and no attempt outside the policy, whatever the service does.
 * - `online` is announced after CONNACK and the SUBACKs of all configured subscriptions; messages may
 *   arrive before that (lmq-protocol 9, step 6) and wait in the inbox.
 * - Messages of the forwarder go from its batches to the socket and are held nowhere here; bounds
 *   are the forwarder's window (out) and `inboundBound` (in).
 * - A connection is given up when a PUBACK or a sign of life does not come in time (keepalive.ts).
 * - Nothing that a service sends ends the process.
 *
 * After a restart of the process nothing is left of a session here: the store has what matters.
 * Renewal of credentials, further transports and MQTT 5 have their places: auth/, transport.ts,
 * frames.ts with mqtt-link.ts.
 */

import { withDeadline } from "../core/clock.ts";
import type { Component } from "../core/component.ts";
import { describeError, HoldfastError, isHoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";
import type { Logger } from "../core/log.ts";
import type { Close, IncomingMessage } from "../core/message.ts";
import { attempt, type Connection, keep, orCancelled } from "./attempt.ts";
import { Inbox } from "./inbound.ts";
import { closeError } from "./mqtt-link.ts";
import { nextAttempt, noHistory, type Outcome, type ReconnectHistory } from "./reconnect-policy.ts";
import { parseEndpoint } from "./transport.ts";
import type {
  ControlMessage,
  Publisher,
  SessionCounters,
  SessionDeps,
  SessionInfo,
  SessionOptions,
  SessionState,
} from "./types.ts";

export { passwordAuthenticator } from "./auth/password.ts";
export { signatureAuthenticator } from "./auth/signature.ts";
export type {
  Authenticator,
  ControlMessage,
  Publisher,
  SessionCounters,
  SessionDeps,
  SessionInfo,
  SessionOptions,
  SessionState,
} from "./types.ts";

/** How long a service may take to close after our DISCONNECT. */
const GOODBYE_MS = 1_000;

export class Session implements Component {
  readonly name = "connection";
  readonly #options: SessionOptions;
  readonly #deps: SessionDeps;
  readonly #log: Logger;
  readonly #inbox: Inbox;
  readonly #stopping = new AbortController();
  readonly #listeners = new Set<() => void>();
  #running: Promise<void> | undefined;
  #state: SessionState = "idle";
  #since: number;
  #endpoint: string;
  #attempts = 0;
  #lastError: HoldfastError | undefined;
  #connection: Connection | undefined;
  #past = { bytesIn: 0, bytesOut: 0, strayAcks: 0 };

  constructor(options: SessionOptions, deps: SessionDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#log = deps.log.child("connection");
    this.#inbox = new Inbox(options.inboundBound, { clock: deps.clock, log: this.#log });
    this.#since = deps.clock.wallMs();
    this.#endpoint = shownEndpoint(options.endpoints[0] ?? "");
  }

  get state(): SessionState {
    return this.#state;
  }

  info(): SessionInfo {
    const { code, message } = this.#lastError ?? {};
    return {
      state: this.#state,
      endpoint: this.#endpoint,
      since: this.#since,
      attempts: this.#attempts,
      ...(code && message ? { lastError: { code, message } } : {}),
    };
  }

  counters(): SessionCounters {
    const now = this.#connection;
    return {
      bytesIn: this.#past.bytesIn + (now?.link.traffic.bytesIn ?? 0),
      bytesOut: this.#past.bytesOut + (now?.link.traffic.bytesOut ?? 0),
      strayAcks: this.#past.strayAcks + (now?.forwarding.strayAcks ?? 0),
      ...this.#inbox.counters,
    };
  }

  /** Called after every change of state; may only wake a loop. Gives back how to unsubscribe. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Begins to connect and returns: a gateway starts without a network. Ends with `signal`. */
  async start(signal: AbortSignal): Promise<void> {
    if (this.#running || this.#stopping.signal.aborted) return;
    if (
      this.#options.profile === "lmq" &&
      this.#options.subscriptions.length > limits.subscriptions
    ) {
      // lmq-protocol 1.3: those beyond the limit do not take effect.
      this.#log.warn("too many subscriptions", { allowed: limits.subscriptions });
    }
    const stop = (): void => this.#stopping.abort();
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    this.#running = this.#run(this.#stopping.signal).finally(() => {
      signal.removeEventListener("abort", stop);
    });
  }

  /** Says DISCONNECT where there is a connection; `deadline` cuts the goodbye short. */
  async stop(deadline: AbortSignal): Promise<void> {
    const cut = (): void => this.#connection?.link.abort({ reason: "stopped" });
    deadline.addEventListener("abort", cut, { once: true });
    this.#stopping.abort();
    if (deadline.aborted) cut();
    await this.#running;
    deadline.removeEventListener("abort", cut);
    this.#enter("stopped");
  }

  /** The way out of the current connection, waiting for one; undefined on abort or stop. */
  async connected(signal: AbortSignal): Promise<Publisher | undefined> {
    while (!signal.aborted && !this.#stopping.signal.aborted) {
      if (this.#connection) return this.#connection.forwarding;
      await this.#changed(signal); // Stopping is a change, too.
    }
    return undefined;
  }

  /** Ends this connection, as after an acknowledgement that did not come; another one follows. */
  giveUp(publisher: Publisher): void {
    const connection = this.#connection;
    if (connection?.forwarding === publisher) connection.link.abort({ reason: "ack_timeout" });
  }

  /**
   * For control messages and simple users: resolves on PUBACK (QoS 0: when written). Throws
   * `not_connected`, `ack_timeout`, `cancelled`, or why the connection ended. Not for a backlog.
   */
  async publish(message: ControlMessage, signal: AbortSignal): Promise<void> {
    const { topic, payload, qos = 1 } = message;
    await this.#ask(signal, ({ link }) => link.publish(topic, payload, qos));
  }

  /**
   * For this connection only; what must be there on every one belongs into the options. Throws as
   * `publish` does, and `rejected_by_service`, `topic_invalid`.
   */
  async subscribe(
    filter: string,
    qos: 0 | 1 | 2,
    signal: AbortSignal,
  ): Promise<{ readonly granted: number }> {
    const granted = await this.#ask(signal, ({ link }) => link.subscribe({ filter, qos }));
    return { granted };
  }

  /** What comes in, over all connections, for one consumer. Ends, drained, with the session. */
  messages(signal: AbortSignal): AsyncIterable<IncomingMessage> {
    return this.#inbox.messages(signal);
  }

  async #run(signal: AbortSignal): Promise<void> {
    let history = noHistory;
    while (!signal.aborted) {
      const outcome = await this.#connectOnce(history, signal);
      if (signal.aborted) break;
      const { clock, random } = this.#deps;
      const next = nextAttempt(history, outcome, {
        nowMs: clock.monotonicMs(),
        options: this.#options.reconnect,
        random,
      });
      history = next.history;
      this.#enter(next.state, { delayMs: Math.round(next.delayMs) });
      await clock.sleep(next.delayMs, signal);
    }
    this.#inbox.close();
    this.#enter("stopped");
  }

  /** One attempt and, when it succeeds, the whole life of the connection. */
  async #connectOnce(history: ReconnectHistory, signal: AbortSignal): Promise<Outcome> {
    const { endpoints } = this.#options;
    const endpoint = endpoints[history.attempt % endpoints.length] ?? "";
    this.#endpoint = shownEndpoint(endpoint);
    this.#attempts++;
    this.#enter("connecting");
    let connection: Connection;
    try {
      const deps = { ...this.#deps, inbox: this.#inbox };
      connection = await attempt(endpoint, this.#options, deps, signal);
    } catch (error) {
      if (!signal.aborted) this.#note(asHoldfastError(error), "attempt failed");
      return { kind: isHoldfastError(error, "credentials_refused") ? "refused" : "failed" };
    }
    return this.#beOnline(connection, signal);
  }

  async #beOnline(connection: Connection, signal: AbortSignal): Promise<Outcome> {
    const { clock } = this.#deps;
    const onlineAtMs = clock.monotonicMs();
    for (const error of connection.refused) this.#note(error, "subscription refused");
    this.#connection = connection;
    this.#inbox.online();
    this.#enter("online", { sessionPresent: connection.sessionPresent });
    connection.link.onClose((close) => this.#ended(connection, close));
    const leave = (): void => void this.#goodbye(connection);
    signal.addEventListener("abort", leave, { once: true });
    if (signal.aborted) leave();
    const close = await keep(connection, this.#options, this.#deps);
    signal.removeEventListener("abort", leave);
    const onlineMs = clock.monotonicMs() - onlineAtMs;
    return { kind: "ended", onlineMs, takenOver: close.reason === "takeover" };
  }

  #ended(connection: Connection, close: Close): void {
    const { bytesIn, bytesOut } = connection.link.traffic;
    this.#past.bytesIn += bytesIn;
    this.#past.bytesOut += bytesOut;
    this.#past.strayAcks += connection.forwarding.strayAcks;
    this.#connection = undefined;
    this.#attempts = 0;
    if (close.reason !== "stopped") this.#note(closeError(close), "connection ended");
  }

  /** Cannot fail; ends within `GOODBYE_MS`, or when `stop` is out of patience. */
  async #goodbye({ link }: Connection): Promise<void> {
    const { clock } = this.#deps;
    await withDeadline(clock, GOODBYE_MS, new AbortController().signal, (signal) =>
      link.end(signal),
    );
    link.abort({ reason: "stopped" });
  }

  async #ask<T>(signal: AbortSignal, ask: (connection: Connection) => Promise<T>): Promise<T> {
    const connection = this.#connection;
    if (!connection) throw new HoldfastError("not_connected");
    const { clock } = this.#deps;
    const { ackTimeoutMs } = this.#options;
    const result = await withDeadline(clock, ackTimeoutMs, signal, (both) =>
      orCancelled(ask(connection), both),
    );
    if (result.timedOut) throw new HoldfastError("ack_timeout");
    return result.value;
  }

  /** The one door to another state. */
  #enter(state: SessionState, fields: { delayMs?: number; sessionPresent?: boolean } = {}): void {
    if (this.#state === state || this.#state === "stopped") return;
    this.#state = state;
    this.#since = this.#deps.clock.wallMs();
    const level = state === "online" || state === "stopped" ? "info" : "debug";
    this.#log[level](`session ${state}`, { endpoint: this.#endpoint, ...fields });
    for (const listener of [...this.#listeners]) listener();
  }

  /** Warns when the trouble is a new one; the same one again is for debugging. */
  #note(error: HoldfastError, event: string): void {
    const same = this.#lastError?.code === error.code && this.#lastError.message === error.message;
    this.#lastError = error;
    this.#log[same ? "debug" : "warn"](event, {
      endpoint: this.#endpoint,
      code: error.code,
      error: describeError(error),
    });
  }

  #changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const finish = (): void => {
        this.#listeners.delete(finish);
        signal.removeEventListener("abort", finish);
        resolve();
      };
      this.#listeners.add(finish);
      signal.addEventListener("abort", finish, { once: true });
    });
  }
}

function asHoldfastError(error: unknown): HoldfastError {
  if (isHoldfastError(error)) return error;
  return new HoldfastError("connect_failed", undefined, { cause: error });
}

function shownEndpoint(text: string): string {
  try {
    return parseEndpoint(text).text;
  } catch {
    return "";
  }
}
