import type { Clock } from "../../agent/core/clock.ts";
import type { Channel } from "./channel.ts";
import type { Deadline, Deadlines } from "./deadlines.ts";

const WINDOW_MS = 1_000;

/**
 * Messages a second of one client. Who is over it is not punished but read later: its socket fills,
 * and that is all the answer MQTT 3.1.1 has.
 */
export class RateLimit {
  readonly #perSecond: number;
  readonly #clock: Clock;
  readonly #deadlines: Deadlines;
  readonly #channel: Channel;
  #windowEndMs = 0;
  #count = 0;
  #wait: Deadline | undefined;

  /** `perSecond` 0 is any number. */
  constructor(
    perSecond: number,
    deps: { readonly clock: Clock; readonly deadlines: Deadlines; readonly channel: Channel },
  ) {
    this.#perSecond = perSecond;
    this.#clock = deps.clock;
    this.#deadlines = deps.deadlines;
    this.#channel = deps.channel;
  }

  count(): void {
    if (this.#perSecond === 0) return;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs >= this.#windowEndMs) {
      this.#windowEndMs = nowMs + WINDOW_MS;
      this.#count = 0;
    }
    this.#count++;
    if (this.#count < this.#perSecond) return;
    this.#channel.hold("rate");
    this.#wait ??= this.#deadlines.after(this.#windowEndMs - nowMs, () => {
      this.#wait = undefined;
      this.#channel.release("rate");
    });
  }

  stop(): void {
    this.#deadlines.cancel(this.#wait);
  }
}
