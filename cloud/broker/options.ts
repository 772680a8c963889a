import type { AccessLimits } from "../access/access.ts";

/** The limits of lmq-protocol 1.3 and those that bound memory. */
export interface BrokerLimits extends AccessLimits {
  readonly payloadBytes: number;
  /** Filters of one client. */
  readonly subscriptions: number;
  /** Wildcard filters below one parent topic (lmq-protocol 1.2). */
  readonly wildcardsPerParent: number;
  /** Messages a second that are read from one client; 0 is any number. */
  readonly ratePerClient: number;
  readonly connectionsPerAddress: number;
  readonly connections: number;
  /** What connections that have not sent their CONNECT yet may make us hold, in all. */
  readonly strangerBytes: number;
  /** Persistent sessions kept. */
  readonly sessions: number;
  /** Messages that one client may have unacknowledged. */
  readonly inFlight: number;
  /** Messages and bytes that wait in memory for one client that is online. */
  readonly liveMessages: number;
  readonly liveBytes: number;
  /** Bytes that wait in memory for all clients together. */
  readonly liveBytesTotal: number;
}

/** In milliseconds; `offlineBatch` in messages, `retryLimit` in pushes. */
export interface BrokerTimings {
  readonly ackTimeoutMs: number;
  readonly offlineBatch: number;
  readonly offlineIntervalMs: number;
  /** Pushes of one message, the first one counted. */
  readonly retryLimit: number;
  readonly connectTimeoutMs: number;
  /** The expiry notice of a token comes this long before. */
  readonly tokenNoticeAheadMs: number;
}

/** What the broker counts; all since its start, but `connections` and `sessions`. */
export interface BrokerStats {
  connections: number;
  sessions: number;
  /** CONNECTs that were accepted. */
  connected: number;
  /** CONNECTs that were answered with a code, or not at all. */
  refused: number;
  /** PUBLISHes that were accepted. */
  accepted: number;
  /** PUBLISHes sent to clients, repeats included. */
  pushed: number;
  repeated: number;
  /** Messages that their receiver acknowledged. */
  delivered: number;
  /** Messages for a client that nobody had promised to keep. */
  dropped: number;
  /** Messages given up at the retry limit. */
  exhausted: number;
  takeovers: number;
}
