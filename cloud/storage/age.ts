import type { Clock } from "../../agent/core/clock.ts";
import type { Codec } from "../../agent/store/store.ts";

/** How old the service was, and what its clocks said then. */
export interface SavedAge {
  readonly ageMs: number;
  readonly wallMs: number;
  readonly trusted: boolean;
}

/** What of one stop counts at most, as a part of the retention. */
const STOP_PART = 1 / 3;

/**
 * The age of the service: time that provably passed, by which retention is counted. While it runs
 * that is monotonic time, so no jump of the wall clock removes a message. A stop counts as long as
 * the wall clock says, if a source vouched for it before and after, and at most a third of the
 * retention: one wrong reading never removes what was fresh. In doubt a message stays longer, and
 * the limit of the instance bounds that.
 */
export class Age {
  readonly #retentionMs: number;
  readonly #clock: Clock;
  #baseMs = 0;
  #sinceMs = 0;

  constructor(retentionMs: number, clock: Clock) {
    this.#retentionMs = retentionMs;
    this.#clock = clock;
  }

  /** Starts counting, from what the last run saved. */
  start(saved: SavedAge | undefined): void {
    this.#baseMs = (saved?.ageMs ?? 0) + this.#stopMs(saved);
    this.#sinceMs = this.#clock.monotonicMs();
  }

  get ms(): number {
    return Math.floor(this.#baseMs + this.#clock.monotonicMs() - this.#sinceMs);
  }

  /** Whether what was kept at this age is over the retention. */
  isOver(keptAtMs: number): boolean {
    return keptAtMs + this.#retentionMs <= this.ms;
  }

  save(): SavedAge {
    return { ageMs: this.ms, wallMs: this.#clock.wallMs(), trusted: this.#clock.trusted() };
  }

  #stopMs(saved: SavedAge | undefined): number {
    if (!saved?.trusted || !this.#clock.trusted()) return 0;
    const stopMs = this.#clock.wallMs() - saved.wallMs;
    return Math.min(Math.max(0, stopMs), this.#retentionMs * STOP_PART);
  }
}

export const ageCodec: Codec<SavedAge> = {
  encode: ({ ageMs, wallMs, trusted }) => Buffer.from(JSON.stringify([ageMs, wallMs, trusted])),
  decode: (bytes) => {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"));
    const [ageMs, wallMs, trusted] = Array.isArray(value) ? (value as unknown[]) : [];
    // One that cannot be read counts as none: everything is fresh again.
    return {
      ageMs: typeof ageMs === "number" ? ageMs : 0,
      wallMs: typeof wallMs === "number" ? wallMs : 0,
      trusted: trusted === true,
    };
  },
};
