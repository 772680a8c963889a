/**
 * What an outbox promised and what came of it, as plain bookkeeping beside it. Every method throws
 * when a promise is broken. Nothing here asks the code under test how it keeps them.
 */
import { assert } from "../../agent/core/assert.ts";
import type { LaneStats } from "../../agent/outbox/port.ts";
import type { Received } from "../support/sim-link.ts";
import { opened } from "./envelope.ts";
import type { LaneName, PlannedLane } from "./plan.ts";
import { Repeats } from "./repeats.ts";

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
  /** Where the lane keeps only the latest: of the messages with this key. */
  readonly key: string | undefined;
  /** It goes out as a CloudEvent. */
  readonly wrapped: boolean;
  /**
   * Where it is in its stream: after what had its place before `from`, before what comes to it after
   * `place`, which is undefined while that is open. The two differ only for staged messages.
   */
  from: number;
  place: number | undefined;
  state: "waiting" | "accepted" | "refused";
  id: string | undefined;
  /** A lifetime may have ended it: so much time has been proven. */
  mayExpire: boolean;
  arrivals: number;
  arrivedAtMs: number;
  /** It may have been let go by a process that could not write that down. */
  mayReturn: boolean;
  /** It was in quarantine; alone: others of its topic went through. */
  parked: "no" | "topic" | "alone";
  /** The bytes in which it first came. */
  raw: string | undefined;
  /** A person put an old copy of the state back: nothing is promised of it any more. */
  forgiven: boolean;
}

export class Promises {
  readonly messages = new Map<string, Tracked>();
  readonly repeats = new Repeats();
  /** Messages that a policy let go, as the processes counted them, by lane and reason. */
  readonly #dropped = new Map<string, number>();
  readonly #dropTimes = new Map<LaneName, number>();
  /** As the ones before, for whatever reason. */
  readonly #letGoMs = new Map<LaneName, number>();
  /** By topic, the latest `from` of what has arrived. */
  readonly #lastFrom = new Map<string, number>();
  /** By boot, the distances between wall and monotonic time that a trusted clock had at a put. */
  readonly #trustedOffsets = new Map<number, Set<number>>();
  #places = 0;

  /** It begins: whatever has its place by now is before it. */
  offer(message: Omit<Tracked, "from" | "place" | keyof typeof untouched>): Tracked {
    const from = ++this.#places;
    const tracked: Tracked = { ...message, ...untouched, from, place: undefined };
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
    // One that gave way to a newer message of its key is answered as that is.
    const gaveWay = message.key !== undefined && message.arrivals === 0;
    assert(message.id === undefined || message.id === id || gaveWay, `${message.text} has two ids`);
    if (!gaveWay) message.id = id;
    message.state = "accepted";
  }

  refused(message: Tracked): void {
    if (message.state === "waiting") message.state = "refused";
  }

  /** The broker received a PUBLISH. */
  arrived(received: Received, now: Moment): void {
    const { id, topic, text: raw, dup } = received;
    const { payload, wrapped } = opened(received);
    const text = /^\d+/.exec(payload)?.[0] ?? "";
    const message = this.messages.get(text);
    assert(message !== undefined, `${text} came, and nobody put it`);
    assert(message.topic === topic, `${text} came on ${topic}, not on ${message.topic}`);
    assert(message.payload === payload, `${text} came with other bytes`);
    assert(message.wrapped === wrapped, `${text} came ${wrapped ? "in" : "without"} an envelope`);
    assert(message.id === undefined || message.id === id, `${text} came as ${id} (${message.id})`);
    message.id = id;
    if (message.arrivals++ > 0) {
      if (message.forgiven) return;
      assert(message.raw === raw, `${text} came again with other bytes`);
      this.repeats.came(text);
      return;
    }
    message.raw = raw;
    message.arrivedAtMs = now.monotonicMs;
    // One that is not accepted yet is not let go, and one that was taken stays in flight. What was
    // in quarantine had the lifetime of that.
    const mayGo = message.state === "accepted" && !dup && message.parked === "no";
    assert(!mayGo || !expired(message, now), `${text} was sent after its lifetime`);
    this.#checkOrder(message);
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
    this.#letGoMs.set(lane, now.monotonicMs);
    if (reason === "full" || reason === "quota") this.#dropTimes.set(lane, now.monotonicMs);
  }

  /** The process ends: what was let go since then may be there again. */
  letGoReturns(sinceMs: number, diskFailed: boolean): void {
    for (const message of this.messages.values()) {
      // Sent while the disk did not take it: the one that it replaced is still there.
      if (diskFailed && message.key !== undefined && message.arrivals === 0) {
        message.mayReturn = true;
      }
      const droppedMs = this.#dropTimes.get(message.lane) ?? Number.NEGATIVE_INFINITY;
      if (droppedMs >= sinceMs && message.arrivals === 0) message.mayReturn = true;
    }
  }

  /** Whether something was let go since then. */
  letGoSince(sinceMs: number): boolean {
    return [...this.#letGoMs.values()].some((ms) => ms >= sinceMs);
  }

  /** An old copy of the state came back. */
  forgive(): void {
    for (const message of this.messages.values()) message.forgiven = true;
    this.#lastFrom.clear();
  }

  /** Accepted, never arrived, and no newer one took its place. */
  get missing(): Tracked[] {
    const newest = new Map<string, number>();
    for (const { lane, key, state, arrivals, from } of this.messages.values()) {
      if (key === undefined || (state !== "accepted" && arrivals === 0)) continue;
      newest.set(`${lane} ${key}`, Math.max(from, newest.get(`${lane} ${key}`) ?? 0));
    }
    const wasReplaced = ({ lane, key, from }: Tracked): boolean =>
      key !== undefined && from < (newest.get(`${lane} ${key}`) ?? 0);
    return [...this.messages.values()].filter(
      (message) =>
        message.state === "accepted" &&
        message.arrivals === 0 &&
        !message.forgiven &&
        !wasReplaced(message),
    );
  }

  /** At the end, when everything has healed and been sent; gives how many are missing by lane. */
  checkDelivered(window: number): Map<string, number> {
    const missing = Map.groupBy(this.missing, ({ lane }) => lane);
    for (const [lane, lost] of missing) {
      const counted = (reason: string): number => this.#dropped.get(`${lane} ${reason}`) ?? 0;
      const gone = counted("full") + counted("quota") + counted("quarantine");
      const timeless = lost.filter((one) => !one.mayExpire && !this.#newerMayHaveExpired(one));
      const names = (of: readonly Tracked[]): string => of.map(({ text }) => text).join(" ");
      assert(timeless.length <= gone, `lost in ${lane}, ${gone} counted: ${names(timeless)}`);
      const all = gone + counted("ttl");
      assert(lost.length <= all, `lost in ${lane}, ${all} counted: ${names(lost)}`);
      const inLane = timeless.filter(({ parked }) => parked === "no");
      this.#checkOldestFirst(lane, inLane, window);
    }
    return new Map([...missing].map(([lane, lost]) => [lane, lost.length]));
  }

  /** A newer one of its key was never answered, but took its place and lived too long. */
  #newerMayHaveExpired({ lane, key, from }: Tracked): boolean {
    if (key === undefined) return false;
    return [...this.messages.values()].some(
      (other) => other.lane === lane && other.key === key && other.from > from && other.mayExpire,
    );
  }

  /** What a full lane lets go is its oldest: few older ones are still sent after the last drop. */
  #checkOldestFirst(lane: LaneName, lost: readonly Tracked[], window: number): void {
    const lastDropMs = this.#dropTimes.get(lane);
    if (lastDropMs === undefined) return;
    for (const { text, topic, from } of lost) {
      const older = [...this.messages.values()].filter(
        (other) =>
          other.topic === topic &&
          !other.forgiven &&
          other.parked === "no" &&
          other.arrivals > 0 &&
          other.arrivedAtMs > lastDropMs &&
          (other.place ?? Number.POSITIVE_INFINITY) < from,
      );
      assert(
        older.length <= window,
        `${text} was dropped from ${lane}, ${older.length} older ones were sent afterwards`,
      );
    }
  }

  #checkOrder(message: Tracked): void {
    const { topic, from, place, text, state } = message;
    // What was refused may come all the same, but nobody was promised when.
    if (place === undefined || state === "refused") return;
    if (message.forgiven || message.mayReturn || message.mayExpire) return;
    if (message.parked === "alone") return;
    const last = this.#lastFrom.get(topic) ?? 0;
    assert(place >= last, `in ${topic} ${text} (place ${place}) came after place ${last}`);
    this.#lastFrom.set(topic, Math.max(from, last));
  }
}

const untouched = {
  state: "waiting" as Tracked["state"],
  id: undefined as string | undefined,
  mayExpire: false,
  arrivals: 0,
  arrivedAtMs: 0,
  mayReturn: false,
  parked: "no" as Tracked["parked"],
  raw: undefined as string | undefined,
  forgiven: false,
};

/** I6, I7: a lane is within its bounds, or was over them when they were made smaller. */
export function checkBounds(
  name: string,
  { messages, bytes }: LaneStats,
  bounds: PlannedLane | undefined,
  before: { readonly messages: number; readonly bytes: number } = { messages: 0, bytes: 0 },
): void {
  const { maxMessages = 0, maxBytes = 0 } = bounds ?? {};
  // A message and the one that it takes the place of both count until the new one is safe.
  const twice = bounds?.keep === "latest";
  const most = {
    messages: Math.max(maxMessages, before.messages) + (twice ? maxMessages : 0),
    bytes: Math.max(maxBytes, before.bytes) + (twice ? maxBytes : 0),
  };
  assert(messages >= 0 && bytes >= 0, `${name} has ${messages} messages, ${bytes} bytes`);
  assert((messages === 0) === (bytes === 0), `${name} has ${messages} messages, ${bytes} bytes`);
  assert(
    messages <= most.messages,
    `${name} has ${messages} messages, at most ${most.messages} allowed`,
  );
  assert(bytes <= most.bytes, `${name} has ${bytes} bytes, at most ${most.bytes} allowed`);
}

/** So long ago in the same boot, whatever the wall clock says. */
function expired({ ttlMs, putAt }: Tracked, now: Moment): boolean {
  return ttlMs > 0 && putAt.boot === now.boot && now.monotonicMs - putAt.monotonicMs > ttlMs;
}
