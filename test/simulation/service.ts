/**
 * The other end of the links of a schedule: a service that hears, acknowledges when it is told to or
 * by itself, loses, resets, and closes the connection on a topic that it does not allow.
 */
import { assert } from "../../agent/core/assert.ts";
import type { Close } from "../../agent/core/message.ts";
import type { FakeClock } from "../support/fake-clock.ts";
import type { SeededRandom } from "../support/seeded-random.ts";
import { type Received, SimLink } from "../support/sim-link.ts";

export interface ServiceEvents {
  /** A packet was written, whether the service hears it or not. */
  sent(received: Received, isFirst: boolean): void;
  heard(received: Received): void;
  acknowledged(received: Received): void;
  /** The link is about to end. */
  closing(): void;
  /** The next link, or none. */
  offer(link: SimLink | undefined): void;
  trace(line: string): void;
}

interface Connection {
  readonly link: SimLink;
  /** How many more publishes it hears. */
  hears: number;
  /** It is about to be closed by the service. */
  doomed: boolean;
}

/** Between a publish and its acknowledgement, a reset, a new connection; ms. */
const PACE = { ack: 3, close: 2, connect: 20 };

export class SimService {
  /** All topics that it ever refused. */
  readonly everRefused = new Set<string>();
  /** Closes for the refused topic, since it is refused and since the process started. */
  refusals = 0;
  /** Other closes, since the process started. */
  otherCloses = 0;
  offlineSinceMs = 0;
  /** A publish has reset a link. */
  hasReset = false;
  #refused: string | undefined;
  #isHealed = false;
  #livelyUntilMs = Number.NEGATIVE_INFINITY;
  #resets = 0;
  #current: Connection | undefined;
  /** Nothing was sent on the link of now. */
  #isFirst = true;
  /** Its own: what never wakes would be held by one that all share. */
  readonly #never = new AbortController().signal;
  readonly #clock: FakeClock;
  readonly #random: SeededRandom;
  readonly #events: ServiceEvents;

  constructor(clock: FakeClock, random: SeededRandom, events: ServiceEvents) {
    this.#clock = clock;
    this.#random = random;
    this.#events = events;
  }

  get link(): SimLink | undefined {
    return this.#current?.link;
  }

  get refused(): string | undefined {
    return this.#refused;
  }

  refuse(topic: string | undefined): void {
    if (topic !== undefined) this.everRefused.add(topic);
    if (topic !== this.#refused) this.refusals = 0;
    this.#refused = topic;
  }

  /** For so long it acknowledges and connects by itself; `resets`: how likely a publish resets. */
  beLively(ms: number, resets: number): void {
    this.#livelyUntilMs = this.#clock.monotonicMs() + ms;
    this.#resets = resets;
    if (this.#current && this.#current.hears !== Number.POSITIVE_INFINITY)
      this.close("ack_timeout");
    this.connect();
    for (const received of this.link?.unacked ?? []) this.#acknowledgeSoon(received);
  }

  /** From here on it loses nothing and comes back by itself. */
  heal(): void {
    this.#isHealed = true;
    this.#resets = 0;
    if (this.#current && this.#current.hears !== Number.POSITIVE_INFINITY)
      this.close("ack_timeout");
    this.connect();
  }

  connect(): void {
    if (this.#current) return;
    // Some links lose everything from a moment on, before they are closed.
    const loses = !this.#isHealed && !this.#isLively && this.#random.chance(0.2);
    const hears = loses ? this.#random.int(12) : Number.POSITIVE_INFINITY;
    const link = new SimLink((received) => this.#receive(connection, received));
    const connection: Connection = { link, hears, doomed: false };
    this.#current = connection;
    this.#isFirst = true;
    this.#events.offer(link);
  }

  /** Acknowledges what is at this place of what it heard; false when nothing is. */
  acknowledge(place: number): boolean {
    const { link } = this;
    const received = link?.ack(place % Math.max(1, link.unacked.length));
    if (!link || !received) return false;
    this.#events.acknowledged(received);
    // What a service says twice changes nothing.
    if (this.#random.chance(0.05)) link.acknowledge(received);
    return true;
  }

  close(reason: Close["reason"]): void {
    const current = this.#current;
    if (!current) return;
    if (!current.doomed) this.otherCloses++;
    this.#events.closing();
    this.#current = undefined;
    this.offlineSinceMs = this.#clock.monotonicMs();
    current.link.close(reason);
    this.#events.offer(undefined);
    if (this.#isLively || this.#isHealed) this.#later(PACE.connect, () => this.connect());
  }

  /** The process at the other end stops or is gone. */
  drop(reason: Close["reason"]): void {
    const current = this.#current;
    this.#current = undefined;
    this.offlineSinceMs = this.#clock.monotonicMs();
    current?.link.close(reason);
    this.#livelyUntilMs = Number.NEGATIVE_INFINITY;
    this.refusals = 0;
    this.otherCloses = 0;
  }

  get #isLively(): boolean {
    return this.#clock.monotonicMs() < this.#livelyUntilMs;
  }

  #receive(connection: Connection, received: Received): void {
    const { link } = connection;
    if (connection !== this.#current) return;
    this.#events.sent(received, this.#isFirst);
    this.#isFirst = false;
    if (connection.doomed || connection.hears-- <= 0) {
      link.unacked.pop();
      return;
    }
    if (received.topic === this.#refused) {
      link.unacked.pop();
      this.refusals++;
      this.#events.trace(`  refused ${received.topic}`);
      this.#closeSoon(connection);
      return;
    }
    this.#events.heard(received);
    if (this.#isLively && this.#random.chance(this.#resets)) {
      this.otherCloses++;
      this.hasReset = true;
      this.#closeSoon(connection);
    } else if (this.#isLively) this.#acknowledgeSoon(received);
  }

  #closeSoon(connection: Connection): void {
    connection.doomed = true;
    this.#later(PACE.close, () => {
      if (this.#current === connection) this.close("peer_closed");
    });
  }

  #acknowledgeSoon(received: Received): void {
    const { link } = this;
    this.#later(PACE.ack + this.#random.int(4), () => {
      const place = this.link === link ? (link?.unacked.indexOf(received) ?? -1) : -1;
      if (place >= 0) assert(this.acknowledge(place), "it is there");
    });
  }

  #later(ms: number, action: () => void): void {
    void this.#clock.sleep(ms, this.#never).then(action);
  }
}
