import type { Duplex } from "node:stream";
import { type IClientOptions, MqttClient } from "mqtt";
import type { Clock } from "../core/clock.ts";
import { HoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";
import type { Close } from "../core/message.ts";
import { describeNotice } from "../protocol/notices.ts";
import type { PublishMark, Scanned } from "./frames.ts";
import type { Credentials, Subscription } from "./types.ts";
import { Wire } from "./wire.ts";

/**
 * One connection over mqtt.js: one client, used once. This is the only file that knows the library.
 *
 * mqtt.js does CONNECT, SUBSCRIBE, our control publishes, and the parsing of what comes in. It does
 * not reconnect, does not queue, holds no message of the forwarder, sends no acknowledgement for an
 * inbound message, and runs no timer that matters: its keep-alive gets a timer that never fires,
 * because it would judge a socket dead that we paused, and would do so by a clock that is not ours
 * (keepalive.ts does it instead); its CONNACK timer is set out of reach for the same reason.
 *
 * Whatever ends the connection comes through `#finish`, once; later events of a dying client are
 * listened to and ignored, since an unheard "error" would end the process.
 */
export interface LinkOptions {
  readonly clientId: string;
  readonly cleanSession: boolean;
  readonly keepaliveS: number;
  readonly maxPayloadBytes: number;
}

export interface LinkEvents {
  /** CONNACK 0, before anything that came behind it. */
  accepted(sessionPresent: boolean): void;
  /** PUBACKs of the forwarder's ids in one read. */
  acknowledged(packetIds: readonly number[]): void;
  published(arrival: Arrival): void;
  released(packetId: number): void;
}

/** An inbound PUBLISH, as the service sent it. */
export interface Arrival {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: 0 | 1 | 2;
  readonly dup: boolean;
  /** 0 for QoS 0. */
  readonly packetId: number;
  /** The payload was larger than allowed and is not here. */
  readonly oversizeBytes?: number;
}

const DISCONNECT = Uint8Array.of(0xe0, 0);
const PINGREQ = Uint8Array.of(0xc0, 0);
/** Calling back with an error is how mqtt.js is told to leave the PUBACK to us. */
const ACKNOWLEDGED_LATER = new Error("acknowledged later");
/** The longest timer that Node takes; the connect timeout is the session's. */
const NEVER_MS = 2 ** 31 - 1;
const SUBSCRIPTION_REFUSED = 0x80; // [MQTT-3.9.3-2]

export class MqttLink {
  readonly #options: LinkOptions;
  readonly #events: LinkEvents;
  readonly #wire: Wire;
  readonly #closed = Promise.withResolvers<Close>();
  readonly #closeListeners = new Set<(close: Close) => void>();
  readonly #marks: PublishMark[] = [];
  #client: MqttClient | undefined;
  #publishes = 0;
  #close: Close | undefined;
  #notice: number | undefined;

  constructor(
    options: LinkOptions,
    deps: { readonly socket: Duplex; readonly clock: Clock; readonly events: LinkEvents },
  ) {
    this.#options = options;
    this.#events = deps.events;
    this.#wire = new Wire(options, {
      socket: deps.socket,
      clock: deps.clock,
      events: {
        received: (scanned) => this.#received(scanned),
        ended: (close) => this.#finish(close),
      },
    });
  }

  /** How the connection ended; undefined while it is open. */
  get close(): Close | undefined {
    return this.#close;
  }

  get closed(): Promise<Close> {
    return this.#closed.promise;
  }

  /** Calls once, at once when it has ended, before `closed` resolves; gives back how to forget it. */
  onClose(listener: (close: Close) => void): () => void {
    if (this.#close) listener(this.#close);
    else this.#closeListeners.add(listener);
    return () => this.#closeListeners.delete(listener);
  }

  get traffic(): Readonly<
    Pick<Wire, "bytesIn" | "bytesOut" | "sentAtMs" | "resumedAtMs" | "held">
  > {
    return this.#wire;
  }

  /**
   * CONNECT to CONNACK. Throws `credentials_refused` for return codes 4 and 5, which the sources
   * do not tell apart (lmq-protocol 3), `connection_refused` for the others, and what `end` of a
   * connection means when it ended first.
   */
  connect(credentials: Credentials): Promise<{ readonly sessionPresent: boolean }> {
    return this.#whileOpen((resolve, reject) => {
      const client = new MqttClient(() => this.#wire, this.#clientOptions(credentials));
      this.#client = client;
      client.handleMessage = (packet, callback) => {
        this.#published(packet);
        callback(ACKNOWLEDGED_LATER);
      };
      client.on("packetreceive", (packet) => {
        if (packet.cmd !== "connack") return;
        if (packet.returnCode) reject(refusal(packet.returnCode));
        else this.#events.accepted(packet.sessionPresent);
      });
      client.on("connect", (packet) => resolve({ sessionPresent: packet.sessionPresent }));
      client.on("error", (error) => this.#finish({ reason: "protocol", error }));
      client.on("close", () => this.#finish({ reason: "peer_closed" }));
    });
  }

  /** The granted QoS. Throws `rejected_by_service`, `topic_invalid`, or why the link ended. */
  subscribe({ filter, qos }: Subscription): Promise<number> {
    return this.#whileOpen((resolve, reject) => {
      const client = this.#liveClient(reject);
      client?.subscribe([filter], { qos }, (error, _granted, packet) => {
        const code = packet?.granted[0];
        if (code === SUBSCRIPTION_REFUSED) reject(subscriptionRefused(filter));
        else if (error || typeof code !== "number") reject(filterInvalid(filter, error));
        else resolve(code);
      });
    });
  }

  /** QoS 1: resolves on PUBACK. Throws why the link ended. */
  publish(topic: string, payload: Uint8Array | string, qos: 0 | 1): Promise<void> {
    const bytes = typeof payload === "string" ? payload : Buffer.from(payload);
    return this.#whileOpen((resolve, reject) => {
      const client = this.#liveClient(reject);
      client?.publish(topic, bytes, { qos }, (error) => {
        if (error) reject(new HoldfastError("connection_lost", undefined, { cause: error }));
        else resolve();
      });
    });
  }

  /** Whole packets of ours. */
  write(packets: Uint8Array): void {
    this.#wire.send(packets);
  }

  ping(): void {
    this.#wire.send(PINGREQ);
  }

  /** Stops reading (true) or goes on; what is written is not touched. */
  hold(held: boolean): void {
    this.#wire.hold(held);
  }

  /** The service said why it is about to close (lmq-protocol 4.6): it goes with the end. */
  explain(notice: number): void {
    this.#notice = notice;
  }

  /** Ends it at once. */
  abort(close: Close): void {
    this.#finish(close);
  }

  /** DISCONNECT [MQTT-3.14.4-1], then waits for the service to close, until `signal` aborts. */
  async end(signal: AbortSignal): Promise<void> {
    if (this.#close) return;
    await this.#wire.finishWriting(DISCONNECT, signal);
    this.#finish({ reason: "stopped" });
  }

  #received(scanned: Scanned): void {
    this.#marks.push(...scanned.marks);
    if (scanned.pubacks.length > 0) this.#events.acknowledged(scanned.pubacks);
    for (const packetId of scanned.pubrels) this.#events.released(packetId);
  }

  /** mqtt.js shows every PUBLISH once and in order, so its ordinal finds its mark. */
  #published(packet: PublishPacket): void {
    const ordinal = ++this.#publishes;
    const mark = this.#marks[0]?.ordinal === ordinal ? this.#marks.shift() : undefined;
    if (this.#close) return;
    const { payload } = packet;
    this.#events.published({
      topic: packet.topic,
      // A copy: the parser's is a view that would keep the whole read alive.
      payload: new Uint8Array(typeof payload === "string" ? Buffer.from(payload) : payload),
      qos: mark?.qos2 ? 2 : packet.qos,
      dup: packet.dup,
      packetId: packet.messageId ?? 0,
      ...(mark?.oversizeBytes === undefined ? {} : { oversizeBytes: mark.oversizeBytes }),
    });
  }

  /** A promise that the end of the connection rejects. */
  async #whileOpen<T>(
    work: (resolve: (value: T) => void, reject: (error: HoldfastError) => void) => void,
  ): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const forget = this.onClose((close) => reject(closeError(close)));
    try {
      work(resolve, reject);
      return await promise;
    } finally {
      forget();
    }
  }

  #liveClient(reject: (error: HoldfastError) => void): MqttClient | undefined {
    if (!this.#close && this.#client?.connected) return this.#client;
    reject(new HoldfastError("not_connected"));
    return undefined;
  }

  #finish(end: Close): void {
    if (this.#close) return;
    const close = this.#notice === undefined ? end : { ...end, notice: this.#notice };
    this.#close = close;
    for (const listener of this.#closeListeners) listener(close);
    this.#closeListeners.clear();
    this.#wire.destroy();
    this.#closed.resolve(close);
  }

  #clientOptions(credentials: Credentials): IClientOptions {
    return {
      protocolId: "MQTT",
      protocolVersion: 4,
      clientId: this.#options.clientId,
      clean: this.#options.cleanSession,
      keepalive: this.#options.keepaliveS,
      ...(credentials.username === undefined ? {} : { username: credentials.username }),
      ...(credentials.password === undefined ? {} : { password: credentials.password }),
      reconnectPeriod: 0,
      connectTimeout: NEVER_MS,
      resubscribe: false,
      queueQoSZero: false,
      timerVariant: { set: () => 0, clear: () => undefined },
      messageIdProvider: new ControlPacketIds(),
      // Its cache of encoded numbers costs megabytes; our hot path does not go through it.
      writeCache: false,
      log: () => undefined,
    };
  }
}

interface PublishPacket {
  readonly topic: string;
  readonly payload: string | Buffer;
  readonly qos: 0 | 1 | 2;
  readonly dup: boolean;
  readonly messageId?: number;
}

/** Packet ids above the forwarder's. Null, as mqtt.js wants it, when all are in use. */
class ControlPacketIds {
  readonly #used = new Set<number>();
  #last: number = limits.forwarderPacketIds;

  allocate(): number | null {
    const count = 0xffff - limits.forwarderPacketIds;
    if (this.#used.size >= count) return null;
    do this.#last = this.#last >= 0xffff ? limits.forwarderPacketIds + 1 : this.#last + 1;
    while (this.#used.has(this.#last));
    this.#used.add(this.#last);
    return this.#last;
  }

  getLastAllocated(): number | null {
    return this.#last > limits.forwarderPacketIds ? this.#last : null;
  }

  register(packetId: number): boolean {
    if (this.#used.has(packetId)) return false;
    this.#used.add(packetId);
    return true;
  }

  deallocate(packetId: number): void {
    this.#used.delete(packetId);
  }

  clear(): void {
    this.#used.clear();
  }
}

/** What the end of a connection means to whoever waited for something on it. */
export function closeError(close: Close): HoldfastError {
  const cause = close.error;
  switch (close.reason) {
    case "stopped":
      return new HoldfastError("stopped", "The connection was ended on our side.");
    case "peer_closed": {
      const why = close.notice === undefined ? "" : `: ${describeNotice(close.notice)}`;
      const text = `The service closed the connection${why}.`;
      return new HoldfastError("connection_lost", text, { cause });
    }
    case "network":
      return new HoldfastError("connection_lost", "The network failed.", { cause });
    case "keepalive":
      return new HoldfastError("connection_lost", "The service does not answer pings.");
    case "ack_timeout":
      return new HoldfastError("ack_timeout");
    case "takeover":
      return new HoldfastError("takeover");
    default:
      return new HoldfastError(
        "protocol_error",
        `The service broke the protocol: ${cause?.message ?? "unknown"}.`,
        { cause },
      );
  }
}

/** [MQTT-3.2.2-5], table 3.1. */
function refusal(returnCode: number): HoldfastError {
  const details = { returnCode };
  if (returnCode === 4 || returnCode === 5) {
    const message = `The service refused the credentials (return code ${returnCode}).`;
    return new HoldfastError("credentials_refused", message, { details });
  }
  const why =
    { 1: "protocol version", 2: "client id", 3: "service unavailable" }[returnCode] ?? "unknown";
  const message = `The service refused the connection (return code ${returnCode}: ${why}).`;
  return new HoldfastError("connection_refused", message, { details });
}

function subscriptionRefused(filter: string): HoldfastError {
  return new HoldfastError("rejected_by_service", `The service refused to subscribe ${filter}.`);
}

function filterInvalid(filter: string, cause: unknown): HoldfastError {
  return new HoldfastError("topic_invalid", `${filter} cannot be subscribed to.`, { cause });
}
