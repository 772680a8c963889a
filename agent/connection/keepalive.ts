import type { Clock } from "../core/clock.ts";
import type { Close } from "../core/message.ts";

/** What the watch sees of a connection; all times monotonic milliseconds. */
export interface WatchedLink {
  readonly close: Close | undefined;
  readonly traffic: {
    readonly sentAtMs: number;
    readonly bytesIn: number;
    readonly resumedAtMs: number;
    readonly held: boolean;
  };
  ping(): void;
  abort(close: Close): void;
}

export interface WatchOptions {
  readonly keepaliveS: number;
  readonly ackTimeoutMs: number;
}

/** A ping after this part of the keep-alive without a write, and a verdict after that part more. */
const PING_AFTER = 0.75;
const PONG_WITHIN = 0.5;

/**
 * Keeps one connection alive, and gives it up when it is not: no sign of life after a ping, or no
 * PUBACK for the oldest message of the forwarder. A dead peer is thus found within 1.25 keep-alives.
 *
 * Any byte from the service answers a ping. While our own reader is paused the service cannot be
 * heard, so pings go on being sent [MQTT-3.1.2-23] but nothing is judged; the waits start anew when
 * the reader goes on. The system's own TCP probes cover that time.
 */
export async function keepAlive(
  options: WatchOptions,
  deps: {
    readonly link: WatchedLink;
    readonly oldestSentAtMs: () => number | undefined;
    readonly clock: Clock;
  },
  signal: AbortSignal,
): Promise<void> {
  const { link, clock } = deps;
  const keepaliveMs =
    options.keepaliveS > 0 ? options.keepaliveS * 1_000 : Number.POSITIVE_INFINITY;
  let ping: { readonly atMs: number; readonly bytesIn: number } | undefined;
  while (!signal.aborted && !link.close) {
    const nowMs = clock.monotonicMs();
    const { sentAtMs, bytesIn, resumedAtMs, held } = link.traffic;
    if (ping && bytesIn > ping.bytesIn) ping = undefined;
    const pongDueMs = due(ping?.atMs, resumedAtMs, keepaliveMs * PONG_WITHIN);
    const ackDueMs = due(deps.oldestSentAtMs(), resumedAtMs, options.ackTimeoutMs);
    if (!held && nowMs >= ackDueMs) return link.abort({ reason: "ack_timeout" });
    if (!held && nowMs >= pongDueMs) return link.abort({ reason: "keepalive" });
    const pingDueMs = sentAtMs + keepaliveMs * PING_AFTER;
    if (nowMs >= pingDueMs) {
      link.ping();
      ping ??= { atMs: nowMs, bytesIn };
      continue;
    }
    // A message sent during the sleep is due after its end, so no wake-up is needed for it.
    const nextMs = Math.min(
      pingDueMs,
      held ? Number.POSITIVE_INFINITY : pongDueMs,
      held ? nowMs + options.ackTimeoutMs : Math.min(ackDueMs, nowMs + options.ackTimeoutMs),
    );
    await clock.sleep(nextMs - nowMs, signal);
  }
}

function due(sinceMs: number | undefined, resumedAtMs: number, withinMs: number): number {
  return sinceMs === undefined
    ? Number.POSITIVE_INFINITY
    : Math.max(sinceMs, resumedAtMs) + withinMs;
}
