import type { Batch, IdRange, MessageId, OutgoingMessage, Receipt } from "../core/message.ts";
import type { Write } from "../store/store.ts";

/** All that most callers see. */
export interface Outgoing {
  /**
   * Resolves once the message is safe: acknowledged by the service or synced to disk. Throws
   * `topic_invalid`, `topic_too_long`, `lane_unknown`, `payload_too_large`, `lane_full`,
   * `store_not_writable`.
   */
  put(message: OutgoingMessage): Promise<Receipt>;
}

/** Room held in a lane for a message to come; to be given to `stage` or released, once. */
export interface Reservation {
  readonly lane: string;
  readonly bytes: number;
  release(): void;
}

/** A message whose writes join a commit of the caller's. */
export interface Staged {
  readonly id: MessageId;
  /** To be part of the caller's one synced commit. */
  readonly writes: readonly Write[];
  /** The commit succeeded: the message takes its place in its stream now. */
  committed(): void;
  /** The commit did not happen: the room is given back. */
  abandoned(): void;
}

/** What commands and other trusted parts see. */
export interface StagingOutbox extends Outgoing {
  /** Undefined: no room in the lane now. */
  reserve(lane: string, bytes: number): Reservation | undefined;
  /** Throws as `put` does, `lane_full` only without a reservation that is large enough. */
  stage(message: OutgoingMessage, reservation?: Reservation): Staged;
}

export interface TakeLimit {
  readonly messages: number;
  readonly bytes: number;
  /** A message from quarantine may come, to be tried alone. */
  readonly trial?: boolean;
}

/** `trial`: one message that is to be sent with nothing else in flight. */
export type TakenBatch = Batch & { readonly trial?: true };

export interface InFlightId {
  readonly epoch: string;
  readonly seq: number;
}

/** Found guilty of the closes: one message, or all of a topic. */
export interface Accusation {
  readonly scope: "topic" | "message";
  readonly topic: string;
  readonly reason: string;
}

/** unsent: it never went out. guilty: the service closed the connection on it again. */
export type TrialOutcome = "guilty" | "undecided" | "unsent";

/** What the forwarder sees. */
export interface Outbox extends StagingOutbox {
  /** Waits until there is something to send; an empty batch when `signal` aborts. */
  take(limit: TakeLimit, signal: AbortSignal): Promise<TakenBatch>;
  /** The service acknowledged these. Unknown ids are ignored. */
  settle(ids: readonly IdRange[]): void;
  /** Messages in flight that the service does not take: they go to quarantine. */
  setAside(accusation: Accusation, messages: readonly InFlightId[]): void;
  /** The connection ended before the message of a trial was acknowledged. */
  trialEnded(message: InFlightId, outcome: TrialOutcome): void;
  /** Whether there is a connection: decides how long an acceptance may wait for the service. */
  setOnline(online: boolean): void;
  stats(): OutboxStats;
}

export interface LaneStats {
  readonly messages: number;
  readonly bytes: number;
  readonly oldestAgeMs: number;
  /** How many messages a policy let go since the process started, by reason. */
  readonly dropped: Readonly<Record<string, number>>;
  /** In a lane that keeps the latest: how many gave way to newer ones of their key. */
  readonly replaced?: number;
}

export interface OutboxStats {
  readonly lanes: Readonly<Record<string, LaneStats>>;
  readonly inFlight: number;
  readonly quarantined: number;
  /** Messages written to disk since the process started. */
  readonly persisted: number;
  /** Messages acknowledged before they had to be written. */
  readonly elided: number;
}

/** A message on disk that the service has not acknowledged, as far as it is noted. */
export type WaitingMessage = {
  readonly id: MessageId;
  readonly lane: string;
  readonly topic: string;
  /** Of the payload. */
  readonly bytes: number;
  /** Wall time of its acceptance, Unix milliseconds; as right as the clock was. */
  readonly at: number;
};

export type QuarantinedMessage = WaitingMessage & {
  readonly parkedAt: number;
  /** topic: the whole topic is refused. message: others of its topic go through. */
  readonly scope: "topic" | "message";
  readonly reason: string;
  /** How often it, or one of its topic, was tried again. */
  readonly tries: number;
};

export interface QuarantinePage {
  readonly items: readonly QuarantinedMessage[];
  readonly next: string | null;
}

export interface OutboxPage {
  readonly items: readonly WaitingMessage[];
  readonly next: string | null;
}
