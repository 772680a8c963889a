/**
 * The service, built from storage, broker and HTTP side by hand, top to bottom.
 *
 * The store comes from outside and is open while the service lives; whoever opened it closes it
 * after `stop`. `start` resolves when every listener takes connections; `ready` then says where.
 * `stop` ends the connections, then waits until all that was promised is on disk.
 */
import type { Clock } from "../../agent/core/clock.ts";
import type { Component } from "../../agent/core/component.ts";
import type { Logger } from "../../agent/core/log.ts";
import type { Random } from "../../agent/core/random.ts";
import type { Store } from "../../agent/store/store.ts";
import type { Directory, TokenLimits } from "../access/access.ts";
import {
  type Address,
  Broker,
  type BrokerLimits,
  type BrokerStats,
  type BrokerTimings,
  Listener,
  type Tap,
} from "../broker/broker.ts";
import { HttpSide, statusRoute, type TokenRates, tokenRoutes } from "../http/http.ts";
import { Mq, type MqStats, mqRoutes, Notices } from "../mq/mq.ts";
import { CloudStorage } from "../storage/storage.ts";
import { Tokens } from "../tokens/tokens.ts";

export type { Directory } from "../access/access.ts";
export type { Address, BrokerStats, Tap } from "../broker/broker.ts";

export interface CloudLimits extends BrokerLimits, TokenLimits, TokenRates {
  /** Waiting messages of all clients together (lmq-protocol 1.3). */
  readonly offlinePerInstance: number;
  /** Messages of one topic of the MQ side: with consumer groups, and of one that nobody reads. */
  readonly mqPerTopic: number;
  readonly mqUnread: number;
  /** Publishes to topics that nobody reads, in all, that are kept after a burst. */
  readonly mqUnreadPerSecond: number;
  /** Clients that never had a persistent session and for whom something waits. */
  readonly unknownTargets: number;
}

export interface CloudTimings extends BrokerTimings {
  readonly offlineRetentionMs: number;
  /** How long a consumer has a message in hand before it comes again. */
  readonly mqLeaseMs: number;
}

/** A transport left out is not listened on; port 0 is any free port. */
export interface CloudListen {
  readonly host: string;
  readonly mqtt?: { readonly port: number };
  readonly mqtts?: { readonly port: number };
  readonly ws?: { readonly port: number };
  readonly wss?: { readonly port: number };
  readonly http?: { readonly port: number };
}

export interface CloudOptions {
  readonly listen: CloudListen;
  /** PEM; needed for `mqtts` and `wss`. */
  readonly tls?: { readonly cert: string; readonly key: string };
  readonly directory: Directory;
  readonly limits?: Partial<CloudLimits>;
  readonly timings?: Partial<CloudTimings>;
}

export interface CloudDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** The key of its tokens, 32 bytes; asked for at each start. */
  readonly tokenKey: () => Promise<Uint8Array>;
  /** Whether the store had to be repaired at its start. */
  readonly wasRepaired?: () => boolean;
  /** Called for each PUBLISH of a client once it is accepted. */
  readonly tap?: Tap;
}

/** Where it listens; the keys are those of the transports that were asked for. */
export interface CloudAddresses {
  readonly mqtt?: Address;
  readonly mqtts?: Address;
  readonly ws?: Address;
  readonly wss?: Address;
  readonly http?: Address;
}

export interface CloudStats extends BrokerStats {
  /** Messages on disk for clients that do not have them yet. */
  readonly waiting: number;
  readonly expired: number;
  readonly removedForLimit: number;
  readonly bufferedBytes: number;
  readonly mq: MqStats;
}

const defaultLimits: CloudLimits = {
  payloadBytes: 65_536,
  topicMax: 128,
  subscriptions: 30,
  wildcardsPerParent: 100,
  clientIdMax: 64,
  timestampWindowMs: 300_000,
  offlinePerInstance: 1_000_000,
  unknownTargets: 100_000,
  mqPerTopic: 1_000_000,
  mqUnread: 100_000,
  mqUnreadPerSecond: 100,
  ratePerClient: 0,
  connectionsPerAddress: 10_000,
  connections: 20_000,
  strangerBytes: 81_920_000,
  sessions: 100_000,
  inFlight: 1_000,
  liveMessages: 10_000,
  liveBytes: 8_388_608,
  liveBytesTotal: 268_435_456,
  tokenResources: 100,
  tokenMinLifeMs: 60_000,
  tokenMaxLifeMs: 2_592_000_000,
  tokenAppliesPerSecond: 1_000,
  tokenQueriesPerSecond: 1_000,
  tokenRevokesPerMinute: 300,
};

/** Of one topic of the MQ side on disk, as for the messages. */
const MQ_BYTES = { bytes: 268_435_456, unreadBytes: 33_554_432 } as const;
/** Publishes that are kept although no group reads them; the rate behind it is a limit. */
const MQ_UNREAD_BURST = 10_000;
/** Tokens revoked and not expired yet; one costs about 150 bytes of memory. */
const REVOKED_TOKENS = 100_000;

export const defaultTimings: CloudTimings = {
  ackTimeoutMs: 5_000,
  offlineBatch: 30,
  offlineIntervalMs: 5_000,
  retryLimit: 16,
  connectTimeoutMs: 10_000,
  tokenNoticeAheadMs: 300_000,
  mqLeaseMs: 30_000,
  offlineRetentionMs: 259_200_000,
};

/** Room of a WebSocket message beside one payload: the packet's head, or other packets. */
const MESSAGE_HEAD_BYTES = 16_384;

export class Cloud implements Component {
  readonly name = "cloud";
  readonly #options: CloudOptions;
  readonly #log: Logger;
  readonly #storage: CloudStorage;
  readonly #tokens: Tokens;
  readonly #broker: Broker;
  readonly #mq: Mq;
  readonly #notices: Notices;
  readonly #limits: CloudLimits;
  readonly #timings: CloudTimings;
  readonly #clock: Clock;
  #directory: Directory;
  #listeners: Listener[] = [];
  #http: HttpSide | undefined;
  #ready: CloudAddresses | undefined;
  #life: AbortController | undefined;

  constructor(options: CloudOptions, deps: CloudDeps) {
    const limits = { ...defaultLimits, ...options.limits };
    const timings = { ...defaultTimings, ...options.timings };
    this.#options = options;
    this.#directory = options.directory;
    this.#limits = limits;
    this.#timings = timings;
    this.#clock = deps.clock;
    this.#log = deps.log.child("cloud");
    this.#storage = new CloudStorage(
      { ...limits, retentionMs: timings.offlineRetentionMs },
      { ...deps, log: this.#log },
    );
    this.#tokens = new Tokens(
      { maxLifeMs: limits.tokenMaxLifeMs, revoked: REVOKED_TOKENS },
      { ...deps, key: deps.tokenKey, directory: () => this.#directory, log: this.#log },
    );
    const directory = (): Directory => this.#directory;
    this.#mq = new Mq(
      {
        leaseMs: timings.mqLeaseMs,
        messages: limits.mqPerTopic,
        unreadMessages: Math.min(limits.mqUnread, limits.mqPerTopic),
        unreadBurst: MQ_UNREAD_BURST,
        unreadPerSecond: limits.mqUnreadPerSecond,
        ...MQ_BYTES,
      },
      { ...deps, storage: this.#storage, log: this.#log, directory },
    );
    this.#notices = new Notices({ ...deps, mq: this.#mq, directory });
    this.#broker = new Broker(
      { limits, timings },
      {
        mq: this.#mq,
        presence: this.#notices,
        storage: this.#storage,
        directory,
        tokens: this.#tokens,
        clock: deps.clock,
        log: this.#log,
        tap: deps.tap,
      },
    );
  }

  /** Throws `listen_failed` when an address is taken; nothing listens then. */
  async start(signal: AbortSignal): Promise<void> {
    if (this.#life) return;
    const life = new AbortController();
    this.#life = life;
    const both = AbortSignal.any([signal, life.signal]);
    try {
      await this.#storage.start(both);
      await this.#tokens.start(both);
      await this.#mq.start(both);
      await this.#notices.start();
      this.#broker.start(both);
      this.#ready = await this.#listen();
    } catch (error) {
      await this.stop(AbortSignal.abort());
      throw error;
    }
    this.#log.info("listening", {
      ...Object.fromEntries(
        Object.entries(this.#ready).map(([k, v]) => [k, `${v.host}:${v.port}`]),
      ),
    });
  }

  get directory(): Directory {
    return this.#directory;
  }

  /** What was created or taken away while it runs; every later decision is by this one. */
  changeDirectory(directory: Directory): void {
    this.#directory = directory;
  }

  /** Undefined before the start and after the stop. */
  get ready(): CloudAddresses | undefined {
    return this.#ready;
  }

  get stats(): CloudStats {
    return {
      ...this.#broker.stats,
      ...this.#storage.stats,
      bufferedBytes: this.#broker.bufferedBytes,
      mq: this.#mq.stats,
    };
  }

  /** TCP connections of this client id now. */
  connectionsOf(clientId: string): number {
    return this.#broker.connectionsOf(clientId);
  }

  async stop(deadline: AbortSignal): Promise<void> {
    if (!this.#life) return;
    this.#broker.stop();
    const listeners = this.#listeners;
    this.#listeners = [];
    this.#ready = undefined;
    await Promise.all([
      ...listeners.map((listener) => listener.stop(deadline)),
      this.#http?.stop(deadline),
    ]);
    this.#http = undefined;
    this.#life.abort();
    await this.#tokens.stop();
    await this.#storage.stop();
    this.#life = undefined;
  }

  async #listen(): Promise<CloudAddresses> {
    const { listen } = this.#options;
    const addresses: { -readonly [Name in keyof CloudAddresses]: Address } = {};
    for (const transport of ["mqtt", "mqtts", "ws", "wss"] as const) {
      const port = listen[transport]?.port;
      if (port !== undefined) addresses[transport] = await this.#listenMqtt(transport, port);
    }
    if (listen.http) {
      const route = statusRoute({
        directory: () => this.#directory,
        limits: this.#limits,
        clock: this.#clock,
        connectionsOf: (clientId) => this.#broker.connectionsOf(clientId),
      });
      this.#http = new HttpSide(
        { host: listen.host, port: listen.http.port, requestMs: this.#timings.connectTimeoutMs },
        { routes: [route, ...this.#tokenRoutes(), ...this.#mqRoutes()], log: this.#log },
      );
      addresses.http = await this.#http.start();
    }
    return addresses;
  }

  #mqRoutes(): ReturnType<typeof mqRoutes> {
    return mqRoutes({
      mq: this.#mq,
      directory: () => this.#directory,
      limits: this.#limits,
      clock: this.#clock,
      publish: (message, done) => this.#broker.publish(message, done),
    });
  }

  #tokenRoutes(): ReturnType<typeof tokenRoutes> {
    const keeper = this.#tokens;
    return tokenRoutes({
      directory: () => this.#directory,
      limits: this.#limits,
      clock: this.#clock,
      log: this.#log.child("tokens"),
      tokens: {
        nowMs: () => keeper.nowMs(),
        issue: (application) => keeper.issue(application),
        open: (text) => keeper.open(text),
        faultOf: (grant) => keeper.faultOf(grant),
        revoke: async (grant) => {
          await keeper.revoke(grant);
          this.#broker.recheckTokens();
        },
      },
    });
  }

  async #listenMqtt(transport: "mqtt" | "mqtts" | "ws" | "wss", port: number): Promise<Address> {
    const { listen, tls } = this.#options;
    const { connections, payloadBytes } = this.#limits;
    const isWebSocket = transport === "ws" || transport === "wss";
    const maxMessageBytes = isWebSocket ? payloadBytes + MESSAGE_HEAD_BYTES : undefined;
    const listener = new Listener(
      {
        host: listen.host,
        port,
        tls: transport === "mqtts" || transport === "wss" ? tls : undefined,
        webSocket: maxMessageBytes === undefined ? undefined : { maxMessageBytes },
        maxConnections: connections,
        handshakeMs: this.#timings.connectTimeoutMs,
      },
      {
        accept: (stream, address, port) =>
          this.#broker.accept(stream, address, maxMessageBytes, port),
      },
    );
    this.#listeners.push(listener);
    return await listener.start();
  }
}
