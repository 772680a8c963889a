import type { Clock } from "../core/clock.ts";
import type { ErrorCode } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { Batch, Close, IdRange } from "../core/message.ts";
import type { Random } from "../core/random.ts";
import type { Profile } from "../protocol/client-id.ts";

export interface SessionOptions {
  readonly clientId: string;
  /** `mqtt://host[:port]` or `mqtts://host[:port]`; attempt n takes the n-th, in turn. */
  readonly endpoints: readonly string[];
  readonly profile: Profile;
  /** Seconds; 0 switches keep-alive off [MQTT-3.1.2-23]. */
  readonly keepaliveS: number;
  readonly cleanSession: boolean;
  /** From the first look-up to the last SUBACK before the session is online. */
  readonly connectTimeoutMs: number;
  /** The longest that a message of the forwarder may wait for its PUBACK. */
  readonly ackTimeoutMs: number;
  readonly reconnect: ReconnectOptions;
  /** Asked for on every connection, before the session is announced as online. */
  readonly subscriptions: readonly Subscription[];
  readonly tls?: TlsOptions;
  /** What may wait for its `accept` before the socket is paused; one read comes on top. */
  readonly inboundBound: InboundBound;
  /** A larger inbound payload is acknowledged, counted and dropped while it arrives. */
  readonly maxPayloadBytes: number;
}

export interface ReconnectOptions {
  readonly minMs: number;
  readonly maxMs: number;
  readonly refusedMinMs: number;
  readonly takeoverMinMs: number;
}

export interface Subscription {
  readonly filter: string;
  readonly qos: 0 | 1 | 2;
}

export interface InboundBound {
  readonly messages: number;
  readonly bytes: number;
}

/** PEM texts. The peer is always verified; there is no switch against it. */
export interface TlsOptions {
  /** Instead of the public authorities. */
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  /** The name the certificate must carry, where it is not the endpoint's host. */
  readonly serverName?: string;
}

export interface SessionDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly authenticator: Authenticator;
}

/** What goes into CONNECT. */
export interface Credentials {
  readonly username?: string;
  readonly password?: string;
}

/** One file per mode in auth/. Asked before every CONNECT. */
export interface Authenticator {
  credentials(signal: AbortSignal): Promise<Credentials>;
}

export type SessionState =
  | "idle" // not started
  | "connecting" // an attempt is under way
  | "online" // CONNACK and all SUBACKs are here
  | "backing-off" // waiting for the next attempt
  | "refused" // the same, after the service refused the credentials
  | "stopped";

export interface SessionInfo {
  readonly state: SessionState;
  /** The endpoint of the current or last attempt, without any user name in it. */
  readonly endpoint: string;
  /** When the state was entered, Unix milliseconds. */
  readonly since: number;
  /** Attempts in the current outage, or in the one that ended with this connection. */
  readonly attempts: number;
  /** Why the last attempt failed, the last connection ended, or a subscription was refused. */
  readonly lastError?: { readonly code: ErrorCode; readonly message: string };
}

/** Since the process started. */
export interface SessionCounters {
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** PUBACKs with an id of the forwarder's that nothing was waiting for. */
  readonly strayAcks: number;
  /** Inbound messages over `maxPayloadBytes`. */
  readonly oversized: number;
  /** Inbound messages that the service sent again while the first copy was in hand. */
  readonly duplicates: number;
  /** How often the socket was paused because too much waited for its `accept`. */
  readonly pauses: number;
}

/** One connection's way out for the forwarder. */
export interface Publisher {
  /** Writes the batch in one piece; nothing happens once the connection has ended. */
  send(batch: Batch): void;
  /** What was acknowledged, merged per read; ends, drained, with the connection. One consumer. */
  acks(signal: AbortSignal): AsyncIterable<IdRange>;
  readonly closed: Promise<Close>;
}

export interface ControlMessage {
  readonly topic: string;
  readonly payload: Uint8Array | string;
  /** 1 without it. */
  readonly qos?: 0 | 1;
}
