import type { Close } from "../core/message.ts";

/**
 * Which message makes the service close the connection: a state machine without clock or I/O.
 *
 * The service answers a publish that it does not allow by closing (lmq-protocol 1.4), so that the
 * same packet, sent again after every reconnect, would hold up all others for ever. But links break
 * by themselves, too. So a close is suspicious only if the peer closed, after a good CONNACK, within
 * one acknowledgement timeout of a publish, with messages unacknowledged.
 *
 *   calm ──suspicious close──> narrowing: the window is halved from the head, one close at a time
 *   narrowing ──all that was unacknowledged is acknowledged──> calm: the link did it, and that is
 *                                                              remembered for the next suspicion
 *   narrowing ──evidence against a message that was alone on the wire──> calm, with a verdict
 *
 * Invariants
 * - Nothing is sent before what came before it: only the window shrinks.
 * - A verdict needs a message that was alone unacknowledged, and, without proof, at least three
 *   closes in a row with it as the oldest, seven in all, and no connection of these that ended by
 *   itself while nothing was published on it (all but the first two begin with such a pause,
 *   `probeMs`).
 * - More is needed where the topic went through before, and on a link that is known to break: so
 *   many closes in a row that chance does it once in a million.
 * - `$SYS/tokenInvalidNotice` with code 4 or 5 is proof; with another code it explains the close,
 *   which then says nothing about a message (lmq-protocol 4.6). So do take-overs and our own
 *   timeouts.
 */
export interface SuspicionOptions {
  /** Messages in flight at most, while calm. */
  readonly window: number;
  readonly ackTimeoutMs: number;
}

/** `M`: what stands for a message, the same thing at each sending. */
export interface Suspicion<M> {
  /** Messages in flight at most, now. */
  readonly window: number;
  /** On the wire and unacknowledged at the last suspicious close; empty while calm. */
  readonly suspects: readonly M[];
  readonly oldest: M | undefined;
  /** Suspicious closes in a row with this oldest one. */
  readonly streak: number;
  /** Suspicious closes since it was calm. */
  readonly closes: number;
  /** The longest time from a publish to such a close. */
  readonly closeMs: number;
  /** What the link does without anybody's fault, of the last hour or two. */
  readonly link: Link;
}

interface Link {
  readonly closes: number;
  readonly acks: number;
  readonly sinceMs: number;
}

/** How a connection ended. */
export interface Ended<M> {
  readonly close: Close;
  /** Monotonic milliseconds. */
  readonly nowMs: number;
  /** Undefined: nothing was published on this connection. */
  readonly publishedAtMs: number | undefined;
  /** Sent on this connection and not acknowledged, in the order of sending. */
  readonly unacked: readonly M[];
  /** How many were acknowledged on it. */
  readonly acks: number;
  /** The code of a `$SYS/tokenInvalidNotice` that came on it. */
  readonly notice?: number | undefined;
  /** Whether the topic of a message is known to have gone through. */
  readonly wentThrough: (message: M) => boolean;
}

export interface Judgement<M> {
  readonly state: Suspicion<M>;
  /** The message that is to be set aside, and why. */
  readonly guilty?: { readonly message: M; readonly reason: string };
}

const LEAST_STREAK = 3;
const LEAST_CLOSES = 7;
/** For a message whose topic went through before: it is probably the link. */
const STREAK_OF_GOOD_TOPIC = 8;
const MOST_STREAK = 24;
/** How likely a verdict may be where only chance closed the connections. */
const CHANCE = 1e-6;
const FORGET_MS = 3_600_000;
/** From the second close on: the first is most often the link, and the rest should not wait. */
const PROBE = { closes: 2, leastMs: 250, factor: 4 };
const PROOF = new Set([4, 5]);

export function calm<M>(options: SuspicionOptions): Suspicion<M> {
  return trusting(options, { closes: 0, acks: 0, sinceMs: 0 });
}

/** How long a new connection is to stay up before anything is published on it. */
export function probeMs<M>(state: Suspicion<M>, options: SuspicionOptions): number {
  if (state.suspects.length === 0 || state.closes < PROBE.closes) return 0;
  return Math.min(options.ackTimeoutMs, Math.max(PROBE.leastMs, state.closeMs * PROBE.factor));
}

/** A suspect was acknowledged. When all are, the closes had another cause. */
export function acknowledged<M>(
  state: Suspicion<M>,
  message: M,
  options: SuspicionOptions,
): Suspicion<M> {
  if (!state.suspects.includes(message)) return state;
  const suspects = state.suspects.filter((suspect) => suspect !== message);
  if (suspects.length > 0) return { ...state, suspects };
  return trusting(options, { ...state.link, closes: state.link.closes + state.closes });
}

export function ended<M>(
  before: Suspicion<M>,
  facts: Ended<M>,
  options: SuspicionOptions,
): Judgement<M> {
  const state = { ...before, link: remembered(before.link, facts) };
  const { nowMs, publishedAtMs, unacked, notice } = facts;
  if (!closedByPeer(facts.close)) return { state };
  if (explains(notice)) return { state };
  const proof = notice !== undefined;
  if (publishedAtMs === undefined) return { state: linkBroke(state) };
  const closeMs = nowMs - publishedAtMs;
  const [oldest] = unacked;
  if (oldest === undefined || closeMs > options.ackTimeoutMs) return { state };

  const streak = oldest === state.oldest ? state.streak + 1 : 1;
  const closes = state.closes + 1;
  if (
    unacked.length === 1 &&
    (proof || enough(state.link, { streak, closes }, facts.wentThrough(oldest)))
  ) {
    const reason = proof
      ? `the service said so (code ${notice}) and closed the connection`
      : `the service closed the connection on it ${streak} times in a row`;
    return { state: trusting(options, state.link), guilty: { message: oldest, reason } };
  }
  const window = Math.max(1, Math.floor(Math.min(state.window, unacked.length) / 2));
  const longest = Math.max(state.closeMs, closeMs);
  return {
    state: { ...state, window, suspects: unacked, oldest, streak, closes, closeMs: longest },
  };
}

function trusting<M>({ window }: SuspicionOptions, link: Link): Suspicion<M> {
  return { window, suspects: [], oldest: undefined, streak: 0, closes: 0, closeMs: 0, link };
}

/** An idle connection ended: what was gathered may be the link's doing. */
function linkBroke<M>(state: Suspicion<M>): Suspicion<M> {
  if (state.suspects.length === 0) return state;
  const link = { ...state.link, closes: state.link.closes + state.closes + 1 };
  return { ...state, oldest: undefined, streak: 0, closes: 0, link };
}

function enough(
  link: Link,
  { streak, closes }: { readonly streak: number; readonly closes: number },
  wentThrough: boolean,
): boolean {
  const ofTopic = wentThrough ? STREAK_OF_GOOD_TOPIC : LEAST_STREAK;
  return closes >= LEAST_CLOSES && streak >= Math.max(ofTopic, streakOfChance(link));
}

/** Closes in a row that a link like this one does by itself with a chance of `CHANCE`. */
function streakOfChance({ closes, acks }: Link): number {
  if (closes === 0) return LEAST_STREAK;
  const perPublish = (closes + 1) / (closes + acks + 2);
  const streak = Math.ceil(Math.log(CHANCE) / Math.log(perPublish));
  return Math.min(MOST_STREAK, Math.max(LEAST_STREAK, streak));
}

/** What is old counts half, then a quarter. */
function remembered(link: Link, { nowMs, acks }: Pick<Ended<unknown>, "nowMs" | "acks">): Link {
  const all = { ...link, acks: link.acks + acks };
  if (nowMs - link.sinceMs < FORGET_MS) return all;
  return { closes: Math.floor(all.closes / 2), acks: Math.floor(all.acks / 2), sinceMs: nowMs };
}

/** A notice that gives the connection another reason to end than a message. */
export function explains(notice: number | undefined): boolean {
  return notice !== undefined && !PROOF.has(notice);
}

/** End of stream, or a reset: what a service's close looks like when something was left unread. */
export function closedByPeer({ reason, error }: Close): boolean {
  if (reason === "peer_closed") return true;
  if (reason !== "network" || !error || !("code" in error)) return false;
  return error.code === "ECONNRESET" || error.code === "EPIPE";
}
