import type { Clock } from "../core/clock.ts";
import { describeError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { Store } from "../store/store.ts";
import { type Counter, isGapDue, type Loss, type Losses } from "./losses.ts";
import type { StagingOutbox } from "./port.ts";

export interface GapOptions {
  /** `<up>/gap/<device>` */
  readonly topic: string;
  readonly lane: string;
}

export interface GapDeps {
  readonly outbox: Pick<StagingOutbox, "stage">;
  readonly losses: Losses;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Reports what was let go (I13), one message for each lane and reason, once the losses have ended
 * and the connection is up, or every minute while they go on. The report is queued and its counter
 * deleted in one synced commit.
 */
export class GapReporter {
  readonly #options: GapOptions;
  readonly #deps: GapDeps;
  #failing = false;

  constructor(options: GapOptions, deps: GapDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Never throws: what cannot be reported now is reported later. */
  async report(onlineSinceMs: number | undefined): Promise<void> {
    const { losses, clock, log } = this.#deps;
    for (const counter of losses.reportable) {
      if (!isGapDue(clock.monotonicMs(), onlineSinceMs, counter)) continue;
      try {
        await this.#queue(counter);
        this.#failing = false;
      } catch (error) {
        if (!this.#failing) log.warn("gap not reported yet", { error: describeError(error) });
        this.#failing = true;
        return;
      }
    }
  }

  async #queue(counter: Counter): Promise<void> {
    const { outbox, losses, store, clock } = this.#deps;
    const payload = gapPayload(counter.loss, clock.wallMs());
    const staged = outbox.stage({ ...this.#options, payload });
    try {
      await store.commit([...staged.writes, losses.close(counter)], { sync: true });
    } catch (error) {
      staged.abandoned();
      throw error;
    }
    losses.reported(counter);
    staged.committed();
  }
}

/** The message of surface 5. */
function gapPayload(loss: Loss, at: number): Uint8Array {
  const { lane, reason, from, to, messages, bytes, exact } = loss;
  return Buffer.from(JSON.stringify({ lane, reason, from, to, count: messages, bytes, exact, at }));
}
