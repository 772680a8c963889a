import type { Close } from "../core/message.ts";
import { type Flight, topicOf } from "./flights.ts";
import {
  acknowledged,
  calm,
  closedByPeer,
  ended,
  explains,
  probeMs,
  type Suspicion,
  type SuspicionOptions,
} from "./suspicion.ts";

export interface Verdict {
  readonly guilty: Flight;
  readonly topic: string;
  readonly scope: "topic" | "message";
  readonly reason: string;
}

/** Topics of which it is remembered whether they went through. */
const TOPICS = 1_024;
/** Between two looks at the topic of what went through: the fast path pays nothing for it. */
const SAMPLE_MS = 20;

/**
 * What the forwarder tells the state machine of suspicion about its connections, and what topics
 * are known to go through. Those are a sample; a topic that it missed only needs less evidence.
 */
export class Investigation {
  readonly #options: SuspicionOptions;
  #state: Suspicion<Flight>;
  /** accused: a message of it was found guilty after the last one that went through. */
  readonly #topics = new Map<string, "good" | "accused">();
  #sampledMs = Number.NEGATIVE_INFINITY;
  #publishedAtMs: number | undefined;
  #acks = 0;
  #notice: number | undefined;

  constructor(options: SuspicionOptions) {
    this.#options = options;
    this.#state = calm(options);
  }

  get isCalm(): boolean {
    return this.#state.suspects.length === 0;
  }

  /** Messages on the wire at most. */
  get window(): number {
    return this.#state.window;
  }

  /** How long a new connection is to stay up before something is published on it. */
  get probeMs(): number {
    return probeMs(this.#state, this.#options);
  }

  began(): void {
    this.#publishedAtMs = undefined;
    this.#acks = 0;
    this.#notice = undefined;
  }

  published(nowMs: number): void {
    this.#publishedAtMs = nowMs;
  }

  /** The code of a `$SYS/tokenInvalidNotice` on this connection. */
  notice(code: number): void {
    this.#notice = code;
  }

  /** One was acknowledged; to be called while not calm. */
  landed(flight: Flight): void {
    this.#state = acknowledged(this.#state, flight, this.#options);
  }

  /** So many were acknowledged together, this is one of them. */
  wentThrough(flight: Flight, count: number, nowMs: number): void {
    this.#acks += count;
    if (nowMs - this.#sampledMs < SAMPLE_MS && this.isCalm) return;
    this.#sampledMs = nowMs;
    const topic = topicOf(flight);
    this.#topics.delete(topic); // The newest is last.
    this.#topics.set(topic, "good");
    if (this.#topics.size <= TOPICS) return;
    const oldest = this.#topics.keys().next();
    if (!oldest.done) this.#topics.delete(oldest.value);
  }

  /** Whether a try that was alone on this connection is what ended it. */
  provesGuilty(close: Close): boolean {
    const published = this.#publishedAtMs !== undefined;
    return published && closedByPeer(close) && !explains(this.#notice);
  }

  /** `unacked`: on the wire of this connection, in the order of sending. */
  ended(close: Close, nowMs: number, unacked: readonly Flight[]): Verdict | undefined {
    const { state, guilty } = ended(
      this.#state,
      {
        ...{ close, nowMs, publishedAtMs: this.#publishedAtMs, unacked, acks: this.#acks },
        notice: this.#notice,
        wentThrough: (flight) => this.#topics.get(topicOf(flight)) === "good",
      },
      this.#options,
    );
    this.#state = state;
    if (!guilty) return undefined;
    const topic = topicOf(guilty.message);
    const scope = this.#topics.get(topic) === "good" ? "message" : "topic";
    if (scope === "message") this.#topics.set(topic, "accused");
    else this.#topics.delete(topic);
    return { guilty: guilty.message, topic, scope, reason: guilty.reason };
  }
}
