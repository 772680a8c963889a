import type { Clock } from "../../agent/core/clock.ts";
import type { Logger } from "../../agent/core/log.ts";
import type { RepeatLog } from "../../agent/log/log.ts";
import type { ClientId } from "../../agent/protocol/client-id.ts";
import type { Directory } from "../access/access.ts";
import type { CloudStorage } from "../storage/storage.ts";
import type { Budget } from "./budget.ts";
import type { Deadlines } from "./deadlines.ts";
import type { BrokerLimits, BrokerStats, BrokerTimings } from "./options.ts";
import type { Router } from "./router.ts";
import type { Sessions } from "./sessions.ts";
import type { TimedKeeper } from "./token-session.ts";

/** Called for each PUBLISH of a client once it is accepted: for tests, demos and counters. */
export type Tap = (topic: string, payload: Uint8Array, clientId: string) => void;

/** Told of connections: lmq-protocol 7.3. */
export interface PresencePort {
  /** A client is connected; `peer` is its `ip:port`. What it returns is called at the end. */
  opened(clientId: ClientId, peer: string): (byDisconnect: boolean) => void;
}

/** What the connections of one broker share. */
export interface BrokerContext {
  readonly limits: BrokerLimits;
  readonly timings: BrokerTimings;
  readonly storage: CloudStorage;
  readonly sessions: Sessions;
  readonly router: Router;
  readonly deadlines: Deadlines;
  readonly budget: Budget;
  readonly clock: Clock;
  readonly log: Logger;
  /** For closings that an operator wants to see, however often they come. */
  readonly closings: RepeatLog;
  readonly stats: BrokerStats;
  /** Asked at each decision, so that it may change while the service runs. */
  readonly directory: () => Directory;
  readonly tokens: TimedKeeper;
  readonly tap: Tap | undefined;
  readonly presence: PresencePort | undefined;
}
