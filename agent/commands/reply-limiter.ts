import type { Clock } from "../core/clock.ts";
import { bounds } from "./options.ts";

interface Bucket {
  tokens: number;
  filledMs: number;
}

/**
 * How many answers a sender gets a second, and all senders together: a name costs a stranger
 * nothing, so the sum needs a bound of its own. The senders heard of longest ago are forgotten.
 */
export class ReplyLimiter {
  readonly #rate: number;
  readonly #clock: Clock;
  readonly #all: Bucket;
  readonly #senders = new Map<string, Bucket>();

  constructor(rate: number, clock: Clock) {
    this.#rate = rate;
    this.#clock = clock;
    this.#all = { tokens: rate * bounds.totalReplyRate, filledMs: clock.monotonicMs() };
  }

  allow(from: string): boolean {
    const total = this.#fill(this.#all, this.#rate * bounds.totalReplyRate);
    const sender = this.#fill(this.#bucketOf(from), this.#rate);
    if (total.tokens < 1 || sender.tokens < 1) return false;
    total.tokens--;
    sender.tokens--;
    return true;
  }

  #bucketOf(from: string): Bucket {
    const known = this.#senders.get(from);
    if (known)
      this.#senders.delete(from); // Put back below, as the newest.
    else if (this.#senders.size >= bounds.senders) {
      for (const oldest of this.#senders.keys()) {
        this.#senders.delete(oldest);
        break;
      }
    }
    const bucket = known ?? { tokens: this.#rate, filledMs: this.#clock.monotonicMs() };
    this.#senders.set(from, bucket);
    return bucket;
  }

  #fill(bucket: Bucket, perSecond: number): Bucket {
    const nowMs = this.#clock.monotonicMs();
    const grown = bucket.tokens + ((nowMs - bucket.filledMs) / 1_000) * perSecond;
    bucket.tokens = Math.min(Math.max(perSecond, 1), grown);
    bucket.filledMs = nowMs;
    return bucket;
  }
}
