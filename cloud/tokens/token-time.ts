/**
 * The time by which tokens live: the wall clock, unless it jumps.
 *
 * Promise: a jump of the wall clock neither brings an expired token back to life, also over a
 * restart, nor ends a living one before the jump has lasted a while.
 *
 * How: time goes on by the monotonic clock and follows the wall clock as long as both agree within
 * `TOLERANCE_MS`. A wall clock that is elsewhere is believed after `SETTLE_MS` at the same distance
 * (someone set it, the machine slept); one that comes back before that has changed nothing. When
 * time is set back, a new epoch begins: tokens of former epochs stay expired up to the highest time
 * that was reached, their floor, and tokens issued from then on know nothing of it.
 *
 * Until a jump is believed, tokens follow the time before it: a new token whose `expireTime` was
 * computed by the new time may be refused or live longer by the jump, for `SETTLE_MS`.
 */
import type { Clock } from "../../agent/core/clock.ts";

export interface Floor {
  /** The last epoch it holds for. */
  readonly epoch: number;
  /** Unix milliseconds. */
  readonly ms: number;
}

/** What must be known again after a restart. */
export interface TimeRecord {
  readonly epoch: number;
  readonly floors: readonly Floor[];
  /** The highest time of the current epoch. */
  readonly highMs: number;
}

/** How far apart the two clocks may be and still be drifting. */
const TOLERANCE_MS = 2_000;
const SETTLE_MS = 60_000;
/** Beyond this many the two oldest become one, which may end a token early. */
const FLOORS = 32;

export class TokenTime {
  readonly #clock: Clock;
  #epoch = 0;
  #floors: Floor[] = [];
  #nowMs = 0;
  #atMonotonicMs = 0;
  #strayed: { readonly offsetMs: number; readonly sinceMs: number } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The time while nothing ran is the wall clock's word, but not when it went back. */
  start(record: TimeRecord | undefined): void {
    this.#atMonotonicMs = this.#clock.monotonicMs();
    this.#epoch = record?.epoch ?? 0;
    this.#floors = [...(record?.floors ?? [])];
    this.#nowMs = record?.highMs ?? Number.NEGATIVE_INFINITY;
    const wallMs = this.#clock.wallMs();
    if (wallMs < this.#nowMs - TOLERANCE_MS) this.#goBack(this.#nowMs);
    else if (wallMs < this.#nowMs) return;
    this.#nowMs = wallMs;
  }

  get record(): TimeRecord {
    return { epoch: this.#epoch, floors: this.#floors, highMs: this.#nowMs };
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Unix milliseconds. Asked often enough it notices jumps; the keeper asks it regularly. */
  nowMs(): number {
    const monotonicMs = this.#clock.monotonicMs();
    const wallMs = this.#clock.wallMs();
    const predictedMs = this.#nowMs + (monotonicMs - this.#atMonotonicMs);
    const offsetMs = wallMs - predictedMs;
    this.#atMonotonicMs = monotonicMs;
    if (Math.abs(offsetMs) <= TOLERANCE_MS) {
      this.#strayed = undefined;
      this.#nowMs = Math.max(this.#nowMs, wallMs);
    } else if (this.#hasSettled(offsetMs, monotonicMs)) {
      this.#strayed = undefined;
      if (offsetMs < 0) this.#goBack(predictedMs);
      this.#nowMs = wallMs;
    } else this.#nowMs = predictedMs;
    return this.#nowMs;
  }

  isExpired(token: { readonly expiresAt: number; readonly epoch: number }): boolean {
    if (token.expiresAt <= this.nowMs()) return true;
    return this.#floors.some(({ epoch, ms }) => token.epoch <= epoch && token.expiresAt <= ms);
  }

  #hasSettled(offsetMs: number, monotonicMs: number): boolean {
    const strayed = this.#strayed;
    if (!strayed || Math.abs(offsetMs - strayed.offsetMs) > TOLERANCE_MS) {
      this.#strayed = { offsetMs, sinceMs: monotonicMs };
      return false;
    }
    return monotonicMs - strayed.sinceMs >= SETTLE_MS;
  }

  #goBack(fromMs: number): void {
    this.#floors.push({ epoch: this.#epoch, ms: fromMs });
    this.#epoch++;
    const [first, second, ...rest] = this.#floors;
    if (first && second && this.#floors.length > FLOORS) {
      this.#floors = [{ epoch: second.epoch, ms: Math.max(first.ms, second.ms) }, ...rest];
    }
  }
}
