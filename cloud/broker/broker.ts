/**
 * The MQTT 3.1.1 side of the service, as lmq-protocol wants it.
 *
 * Why not aedes: the sheet goes against its grain in nearly every place. It closes on a denied
 * publish or subscribe, pushes offline messages in timed batches, delivers P2P without a
 * subscription, keeps by the sender's session, repeats after a timeout with a limit, neither
 * retains nor sends wills, and answers only after a group commit. Each would be a hook around
 * aedes' own persistence and delivery, and what was left of it would be the parser. Packets are read
 * by hand for reasons of their own (packets.ts).
 *
 *     socket -> Channel (packets, backpressure) -> Client (protocol) -> Router -> Storage
 *                                                     Delivery <- Sessions <-'
 *
 * Invariants
 * - A packet is answered only when what it promised is safe (storage/storage.ts).
 * - Memory is bounded for a stranger (one CONNECT), for a client (limits of options.ts) and in all
 *   (connections, sessions, `liveBytesTotal`, one number for each waiting message).
 * - One client's misuse ends its own connection and nothing else.
 * - Restarted, it knows the persistent sessions and what waits; clean sessions are gone, as their
 *   connections are.
 */
import type { Duplex } from "node:stream";
import type { Clock } from "../../agent/core/clock.ts";
import type { Logger } from "../../agent/core/log.ts";
import { RepeatLog } from "../../agent/log/log.ts";
import type { Directory } from "../access/access.ts";
import type { CloudStorage, Done } from "../storage/storage.ts";
import { Budget } from "./budget.ts";
import { Client, CONNECT_BYTES } from "./client.ts";
import type { BrokerContext, PresencePort, Tap } from "./context.ts";
import { Deadlines } from "./deadlines.ts";
import type { BrokerLimits, BrokerStats, BrokerTimings } from "./options.ts";
import { type MqTap, type Publication, Router } from "./router.ts";
import { Sessions } from "./sessions.ts";
import type { TimedKeeper } from "./token-session.ts";

export type { PresencePort, Tap } from "./context.ts";
export { type Address, Listener } from "./listener.ts";
export type { BrokerLimits, BrokerStats, BrokerTimings } from "./options.ts";

export interface BrokerOptions {
  readonly limits: BrokerLimits;
  readonly timings: BrokerTimings;
}

export interface BrokerDeps {
  readonly storage: CloudStorage;
  readonly directory: () => Directory;
  readonly tokens: TimedKeeper;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tap: Tap | undefined;
  readonly mq?: MqTap;
  readonly presence?: PresencePort;
}

export class Broker {
  readonly #context: BrokerContext;
  readonly #clients = new Set<Client>();
  readonly #byAddress = new Map<string, number>();
  #strangerBytes = 0;
  #stopped = false;

  constructor(options: BrokerOptions, deps: BrokerDeps) {
    const { storage, clock } = deps;
    const stats = noStats();
    const { sessions: maxSessions, subscriptions, wildcardsPerParent } = options.limits;
    const sessions = new Sessions(
      { sessions: maxSessions, subscriptions, wildcardsPerParent },
      { storage },
    );
    this.#context = {
      ...options,
      ...deps,
      sessions,
      stats,
      router: new Router({
        sessions,
        storage,
        clock,
        stats,
        directory: deps.directory,
        mq: deps.mq,
      }),
      presence: deps.presence,
      closings: new RepeatLog({}, { log: deps.log, clock }),
      deadlines: new Deadlines(clock),
      budget: new Budget(options.limits.liveBytesTotal),
    };
  }

  /** The storage must have started. */
  start(signal: AbortSignal): void {
    this.#context.sessions.load();
    this.#context.deadlines.start(signal);
  }

  /**
   * Takes a connection of any transport; closes it when there are too many. `holdBytes`: what the
   * transport may hold of a packet that is not whole.
   */
  accept(stream: Duplex, address: string, holdBytes = CONNECT_BYTES, port = 0): void {
    const { limits } = this.#context;
    const ofAddress = this.#byAddress.get(address) ?? 0;
    if (
      this.#stopped ||
      this.#clients.size >= limits.connections ||
      this.#strangerBytes + holdBytes > limits.strangerBytes ||
      ofAddress >= limits.connectionsPerAddress
    ) {
      this.#context.stats.refused++;
      stream.on("error", () => undefined);
      stream.destroy();
      return;
    }
    let isStranger = true;
    const identified = (): void => {
      if (isStranger) this.#strangerBytes -= holdBytes;
      isStranger = false;
    };
    const closed = (): void => {
      identified();
      this.#clients.delete(client);
      const left = (this.#byAddress.get(address) ?? 1) - 1;
      if (left > 0) this.#byAddress.set(address, left);
      else this.#byAddress.delete(address);
    };
    const handlers = { identified, closed };
    const client = new Client({ address, port }, { stream, context: this.#context, handlers });
    this.#strangerBytes += holdBytes;
    this.#clients.add(client);
    this.#byAddress.set(address, ofAddress + 1);
    client.start();
  }

  /**
   * A message from the service's own side (the MQ side sends so). `keep`: P2P of QoS 1 waits for a
   * target that is offline. `done` is called when it is safe.
   */
  publish(message: Publication, done: Done): void {
    this.#context.router.route(message, done);
  }

  /** TCP connections of this client id now: 0 or 1, for a newer one closes the older. */
  connectionsOf(clientId: string): number {
    return this.#context.sessions.get(clientId)?.online ? 1 : 0;
  }

  get stats(): Readonly<BrokerStats> {
    const { stats, sessions } = this.#context;
    return { ...stats, connections: this.#clients.size, sessions: sessions.count };
  }

  /** A token was revoked: every connection that lives on it ends (lmq-protocol 4.6, code 3). */
  recheckTokens(): void {
    for (const client of [...this.#clients]) client.recheckTokens();
  }

  /** Bytes held in memory for slow receivers. */
  get bufferedBytes(): number {
    return this.#context.budget.used;
  }

  /** Closes every connection; what was answered is in the storage. */
  stop(): void {
    this.#stopped = true;
    for (const client of [...this.#clients]) client.close("service stopped");
  }
}

function noStats(): BrokerStats {
  return {
    connections: 0,
    sessions: 0,
    connected: 0,
    refused: 0,
    accepted: 0,
    pushed: 0,
    repeated: 0,
    delivered: 0,
    dropped: 0,
    exhausted: 0,
    takeovers: 0,
  };
}
