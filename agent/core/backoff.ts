import { assert } from "./assert.ts";
import type { Random } from "./random.ts";

export interface BackoffOptions {
  readonly minMs: number;
  readonly maxMs: number;
}

/**
 * Full jitter: attempt n (from 0) waits a random time up to min(max, min * 2^n). A fleet that lost
 * its service at one moment thus comes back spread over the whole span.
 */
export function backoffMs(attempt: number, options: BackoffOptions, random: Random): number {
  return random.float() * backoffCeilingMs(attempt, options);
}

/** The longest that `backoffMs` may wait. */
export function backoffCeilingMs(attempt: number, options: BackoffOptions): number {
  assert(attempt >= 0 && options.minMs > 0 && options.maxMs >= options.minMs, "sane back-off");
  return Math.min(options.maxMs, options.minMs * 2 ** Math.min(attempt, 40));
}
