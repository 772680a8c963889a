import { backoffCeilingMs, backoffMs } from "../core/backoff.ts";
import type { Random } from "../core/random.ts";
import type { ReconnectOptions } from "./types.ts";

/**
 * When to try again: a pure function of what happened, so that a year of outages is a test.
 *
 * - Attempt n waits a random time up to min(max, min * 2^n). Only 60 s online bring n back to 0, so
 *   a service that accepts and closes at once is treated like one that is not there.
 * - Credentials refused: a line of its own that starts at `refusedMinMs`, doubles up to `maxMs` and
 *   never waits less than its start. It ends with the first connection that comes to be.
 * - Taken over: from the third time within five minutes on at least `takeoverMinMs`, doubling.
 * - No wait is shorter than a tenth of `minMs`, whatever the random numbers say.
 */
export type Outcome =
  /** Not reachable, no answer in time, or closed before it was online. */
  | { readonly kind: "failed" }
  /** CONNACK 4 or 5. */
  | { readonly kind: "refused" }
  | { readonly kind: "ended"; readonly onlineMs: number; readonly takenOver: boolean };

export interface ReconnectHistory {
  /** The n of the next wait; also which endpoint is next. */
  readonly attempt: number;
  readonly refusals: number;
  /** When the last take-overs were, monotonic milliseconds; at most those that matter. */
  readonly takeovers: readonly number[];
}

export interface NextAttempt {
  readonly history: ReconnectHistory;
  readonly delayMs: number;
  readonly state: "backing-off" | "refused";
}

export const noHistory: ReconnectHistory = { attempt: 0, refusals: 0, takeovers: [] };

const STABLE_MS = 60_000;
const TAKEOVER_SPAN_MS = 300_000;
const TAKEOVERS_ALLOWED = 2;
const TAKEOVERS_KEPT = 32;

export function nextAttempt(
  history: ReconnectHistory,
  outcome: Outcome,
  deps: { readonly nowMs: number; readonly options: ReconnectOptions; readonly random: Random },
): NextAttempt {
  const { nowMs, options, random } = deps;
  const takeovers = history.takeovers.filter((atMs) => nowMs - atMs < TAKEOVER_SPAN_MS);
  switch (outcome.kind) {
    case "refused": {
      const { attempt, refusals } = history;
      return {
        history: { attempt: attempt + 1, refusals: refusals + 1, takeovers },
        delayMs: spreadMs(refusals, options.refusedMinMs, options, random),
        state: "refused",
      };
    }
    case "failed":
      return {
        history: { ...history, attempt: history.attempt + 1, takeovers },
        delayMs: waitMs(history.attempt, options, random),
        state: "backing-off",
      };
    default: {
      const attempt = outcome.onlineMs >= STABLE_MS ? 0 : history.attempt;
      if (outcome.takenOver) takeovers.push(nowMs);
      const waits = takeovers.length - TAKEOVERS_ALLOWED - 1;
      const takeoverMs =
        outcome.takenOver && waits >= 0
          ? spreadMs(waits, options.takeoverMinMs, options, random)
          : 0;
      return {
        history: { attempt: attempt + 1, refusals: 0, takeovers: takeovers.slice(-TAKEOVERS_KEPT) },
        delayMs: Math.max(waitMs(attempt, options, random), takeoverMs),
        state: "backing-off",
      };
    }
  }
}

function waitMs(attempt: number, options: ReconnectOptions, random: Random): number {
  return Math.max(options.minMs / 10, backoffMs(attempt, options, random));
}

/** Between `fromMs` and the doubled ceiling, so that a fleet that was refused together spreads. */
function spreadMs(
  count: number,
  fromMs: number,
  { maxMs }: ReconnectOptions,
  random: Random,
): number {
  const range = { minMs: fromMs, maxMs: Math.max(fromMs, maxMs) };
  return fromMs + random.float() * (backoffCeilingMs(count + 1, range) - fromMs);
}
