import type { Alarms } from "../health/health.ts";
import type { DurableOutbox } from "../outbox/outbox.ts";

/** How often the agent looks at itself. */
export const WATCH_EVERY_MS = 5_000;

/** Looks without a loss before the alarm of a lane is cleared: 10 minutes, so that a slow trickle
 * of losses is one alarm and not one at every other look. */
const CALM_LOOKS = 120;

/**
 * Turns what the outbox counts into alarms: lanes that let messages go.
 */
export class Watch {
  readonly #outbox: Pick<DurableOutbox, "stats">;
  readonly #alarms: Pick<Alarms, "raise" | "clear">;
  /** By lane: messages let go until the last look, and looks since that number changed. */
  readonly #losses = new Map<string, { sum: number; calm: number }>();

  constructor(parts: {
    readonly outbox: Pick<DurableOutbox, "stats">;
    readonly alarms: Pick<Alarms, "raise" | "clear">;
  }) {
    this.#outbox = parts.outbox;
    this.#alarms = parts.alarms;
  }

  look(): void {
    for (const [lane, { dropped }] of Object.entries(this.#outbox.stats().lanes)) {
      const sum = Object.values(dropped).reduce((total, count) => total + count, 0);
      const before = this.#losses.get(lane) ?? { sum: 0, calm: CALM_LOOKS };
      const calm = sum > before.sum ? 0 : before.calm + 1;
      this.#losses.set(lane, { sum, calm });
      this.#set(`outbox.${lane}.dropping`, calm < CALM_LOOKS, {
        severity: "warning",
        cause: `${sum} messages of the lane ${lane} were let go since the start.`,
      });
    }
  }

  #set(name: string, wrong: boolean, about: Parameters<Alarms["raise"]>[1]): void {
    if (wrong) this.#alarms.raise(name, about);
    else this.#alarms.clear(name);
  }
}
