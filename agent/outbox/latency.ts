/** How long the service took to acknowledge, over the last few sends. */
const SAMPLES = 31;

export class RecentLatency {
  readonly #samples: number[] = [];
  #next = 0;
  #medianMs: number | undefined;

  add(ms: number): void {
    this.#samples[this.#next] = ms;
    this.#next = (this.#next + 1) % SAMPLES;
    this.#medianMs = undefined;
  }

  /** Undefined before the first sample. */
  medianMs(): number | undefined {
    if (this.#samples.length === 0) return undefined;
    // Asked for with every message, changed with every acknowledgement.
    this.#medianMs ??= [...this.#samples].sort((a, b) => a - b)[this.#samples.length >> 1];
    return this.#medianMs;
  }
}

/** Waiting less than this for an acknowledgement saves nothing: timers are not finer. */
const LEAST_DELAY_MS = 10;

/**
 * How long an accepted message may wait for the service before it is written. Nothing offline, and
 * nothing where acknowledgements take longer than the configured bound anyway; else twice what is
 * usual.
 */
export function persistDelayMs(
  configuredMs: number,
  online: boolean,
  medianAckMs: number | undefined,
): number {
  if (!online || configuredMs === 0) return 0;
  if (medianAckMs === undefined) return configuredMs;
  if (medianAckMs > configuredMs) return 0;
  return Math.min(configuredMs, Math.max(2 * medianAckMs, LEAST_DELAY_MS));
}
