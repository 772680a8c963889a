/**
 * What an outbox promised and what came of it, as plain bookkeeping beside it. Every method throws
 * when a promise is broken. Nothing here asks the code under test how it keeps them.
 */
import { assert } from "../../agent/core/assert.ts";
import type { LaneStats } from "../../agent/outbox/port.ts";
import type { Received } from "../support/sim-link.ts";
import type { LaneName, PlannedLane } from "./plan.ts";

export interface Moment {
  readonly boot: number;
  readonly monotonicMs: number;
  readonly wallMs: number;
  readonly trusted: boolean;
}

export interface Tracked {
  readonly text: string;
  readonly lane: LaneName;
  readonly topic: string;
  readonly payload: string;
  readonly ttlMs: number;
  readonly putAt: Moment;
  /** Of the process that it was put in. */
  readonly life: number;
  /** Where it is in its stream; undefined while that is open. */
  place: number | undefined;
  state: "waiting" | "accepted" | "refused";
  id: string | undefined;
  /** A lifetime may have ended it: so much time has been proven. */
  mayExpire: boolean;
  arrivals: number;
  arrivedAtMs: number;
  acknowledged: boolean;
  /** It may have been let go by a process that could not write that down. */
  mayReturn: boolean;
  /** A person put an old copy of the state back: nothing is promised of it any more. */
  forgiven: boolean;
}

export class Promises {
  readonly messages = new Map<string, Tracked>();
  duplicates = 0;
  /** Duplicates that what happened so far may cause. */
  allowedDuplicates = 0;
  /** Messages that a policy let go, as the processes counted them, by lane and reason. */
  readonly #dropped = new Map<string, number>();
  readonly #dropTimes = new Map<LaneName, number>();
  readonly #lastPlace = new Map<string, number>();
  /** By boot, the distances between wall and monotonic time that a trusted clock had at a put. */
  readonly #trustedOffsets = new Map<number, Set<number>>();
  #places = 0;

  offer(message: Omit<Tracked, "place" | keyof typeof untouched>): Tracked {
    const tracked: Tracked = { ...message, ...untouched, place: undefined };
    this.messages.set(message.text, tracked);
    const { boot, trusted, wallMs, monotonicMs } = message.putAt;
    const offsets = this.#trustedOffsets.get(boot) ?? new Set();
    this.#trustedOffsets.set(boot, offsets);
    if (trusted) offsets.add(wallMs - monotonicMs);
    return tracked;
  }

  /** It takes its place in its stream, behind those that have one. */
  place(message: Tracked): void {
    message.place = ++this.#places;
  }

  accepted(message: Tracked, id: string): void {
    assert(message.id === undefined || message.id === id, `${message.text} has two ids`);
    message.id = id;
    message.state = "accepted";
  }

  refused(message: Tracked): void {
    if (message.state === "waiting") message.state = "refused";
  }

  /** The broker received a PUBLISH. */
  arrived({ id, topic, text: payload, dup }: Received, now: Moment): Tracked | undefined {
    const text = /^\d+/.exec(payload)?.[0] ?? "";
    const message = this.messages.get(text);
    if (!message) return undefined; // The outbox speaks for itself: a report of a gap.
    assert(message.topic === topic, `${text} came on ${topic}, not on ${message.topic}`);
    assert(message.payload === payload, `${text} came with other bytes`);
    assert(message.id === undefined || message.id === id, `${text} came as ${id} (${message.id})`);
    message.id = id;
    if (message.arrivals++ > 0) {
      if (message.forgiven) return message;
      this.duplicates++;
      assert(
        this.duplicates <= this.allowedDuplicates,
        `${text} came again: ${this.duplicates} duplicates, ${this.allowedDuplicates} allowed`,
      );
      return message;
    }
    message.arrivedAtMs = now.monotonicMs;
    // One that is not accepted yet is not let go, and one that was taken stays in flight.
    const mayGo = message.state === "accepted" && !dup;
    assert(!mayGo || !expired(message, now), `${text} was sent after its lifetime`);
    this.#checkOrder(message);
    return message;
  }

  /** Remembers for which messages enough time has been proven to let them go. */
  timePassed(now: Moment): void {
    for (const message of this.messages.values()) {
      if (message.ttlMs === 0 || message.arrivals > 0 || message.mayExpire) continue;
      message.mayExpire = expired(message, now) || this.#isOldByTrustedWall(message, now);
    }
  }

  /**
   * Between boots two trusted wall times prove it. That of a message may be its neighbour's in a
   * record and the monotonic time between them.
   */
  #isOldByTrustedWall({ putAt, ttlMs }: Tracked, now: Moment): boolean {
    if (!now.trusted || putAt.boot === now.boot) return false;
    const offsets = this.#trustedOffsets.get(putAt.boot) ?? [];
    return [...offsets].some((offset) => now.wallMs - (putAt.monotonicMs + offset) > ttlMs);
  }

  /** So many more were let go by this process since the last look. */
  dropped(lane: LaneName, reason: string, count: number, now: Moment): void {
    assert(count >= 0, `${lane} counts ${count} dropped`);
    if (count === 0) return;
    const key = `${lane} ${reason}`;
    this.#dropped.set(key, (this.#dropped.get(key) ?? 0) + count);
    if (reason === "full") this.#dropTimes.set(lane, now.monotonicMs);
  }

  /** The process ends: what was let go since then may be there again. */
  letGoReturns(sinceMs: number): void {
    for (const message of this.messages.values()) {
      const droppedMs = this.#dropTimes.get(message.lane) ?? Number.NEGATIVE_INFINITY;
      if (droppedMs >= sinceMs && message.arrivals === 0) message.mayReturn = true;
    }
  }

  /** An old copy of the state came back. */
  forgive(): void {
    for (const message of this.messages.values()) message.forgiven = true;
    this.#lastPlace.clear();
  }

  /** At the end, when everything has healed and been sent. */
  checkDelivered(window: number): void {
    const lost = [...this.messages.values()].filter(
      ({ state, arrivals, forgiven }) => state === "accepted" && arrivals === 0 && !forgiven,
    );
    for (const lane of ["alarm", "event", "telemetry"] as const) {
      const ofLane = lost.filter((message) => message.lane === lane);
      const full = this.#dropped.get(`${lane} full`) ?? 0;
      const ttl = this.#dropped.get(`${lane} ttl`) ?? 0;
      const timeless = ofLane.filter(({ mayExpire }) => !mayExpire);
      const names = (of: readonly Tracked[]): string => of.map(({ text }) => text).join(" ");
      assert(timeless.length <= full, `lost in ${lane}, ${full} counted: ${names(timeless)}`);
      assert(
        ofLane.length <= full + ttl,
        `lost in ${lane}, ${full} and ${ttl} counted: ${names(ofLane)}`,
      );
      this.#checkOldestFirst(lane, timeless, window);
    }
  }

  /** What a full lane lets go is its oldest: few older ones are still sent after the last drop. */
  #checkOldestFirst(lane: LaneName, lost: readonly Tracked[], window: number): void {
    const lastDropMs = this.#dropTimes.get(lane);
    if (lastDropMs === undefined) return;
    for (const { text, topic, place = 0 } of lost) {
      const older = [...this.messages.values()].filter(
        (other) =>
          other.topic === topic &&
          !other.forgiven &&
          other.arrivals > 0 &&
          other.arrivedAtMs > lastDropMs &&
          (other.place ?? Number.POSITIVE_INFINITY) < place,
      );
      assert(
        older.length <= window,
        `${text} was dropped from ${lane}, ${older.length} older ones were sent afterwards`,
      );
    }
  }

  #checkOrder(message: Tracked): void {
    const { topic, place, text, state } = message;
    // What was refused may come all the same, but nobody was promised when.
    if (place === undefined || state === "refused") return;
    if (message.forgiven || message.mayReturn || message.mayExpire) return;
    const last = this.#lastPlace.get(topic) ?? 0;
    assert(place > last, `in ${topic} ${text} (place ${place}) came after place ${last}`);
    this.#lastPlace.set(topic, place);
  }
}

const untouched = {
  state: "waiting" as Tracked["state"],
  id: undefined as string | undefined,
  mayExpire: false,
  arrivals: 0,
  arrivedAtMs: 0,
  acknowledged: false,
  mayReturn: false,
  forgiven: false,
};

/** I6, I7: a lane is within its bounds, or was over them when they were made smaller. */
export function checkBounds(
  name: string,
  { messages, bytes }: LaneStats,
  bounds: PlannedLane | undefined,
  before: { readonly messages: number; readonly bytes: number },
): void {
  const most = { messages: bounds?.maxMessages ?? 0, bytes: bounds?.maxBytes ?? 0 };
  assert(messages >= 0 && bytes >= 0, `${name} has ${messages} messages, ${bytes} bytes`);
  assert((messages === 0) === (bytes === 0), `${name} has ${messages} messages, ${bytes} bytes`);
  assert(
    messages <= Math.max(most.messages, before.messages),
    `${name} has ${messages} messages, at most ${most.messages} allowed`,
  );
  assert(
    bytes <= Math.max(most.bytes, before.bytes),
    `${name} has ${bytes} bytes, at most ${most.bytes} allowed`,
  );
}

/** So long ago in the same boot, whatever the wall clock says. */
function expired({ ttlMs, putAt }: Tracked, now: Moment): boolean {
  return ttlMs > 0 && putAt.boot === now.boot && now.monotonicMs - putAt.monotonicMs > ttlMs;
}
