import type { Alarms } from "../health/health.ts";
import type { DurableOutbox } from "../outbox/outbox.ts";
import type { DatabaseStore } from "../store/store.ts";

/** How often the agent looks at itself. */
export const WATCH_EVERY_MS = 5_000;

/**
 * Turns what the parts count into alarms: a disk that does not take writes, and lanes that let
 * messages go. An alarm about a lane is raised when messages were let go since the last look, and
 * cleared at the first look without.
 */
export class Watch {
  readonly #store: Pick<DatabaseStore, "state">;
  readonly #outbox: Pick<DurableOutbox, "stats">;
  readonly #alarms: Pick<Alarms, "raise" | "clear">;
  readonly #letGo = new Map<string, number>();

  constructor(parts: {
    readonly store: Pick<DatabaseStore, "state">;
    readonly outbox: Pick<DurableOutbox, "stats">;
    readonly alarms: Pick<Alarms, "raise" | "clear">;
  }) {
    this.#store = parts.store;
    this.#outbox = parts.outbox;
    this.#alarms = parts.alarms;
  }

  look(): void {
    this.#set("store.not_writable", this.#store.state === "failed", {
      severity: "critical",
      cause: "The disk does not take writes.",
    });
    for (const [lane, { dropped }] of Object.entries(this.#outbox.stats().lanes)) {
      const sum = Object.values(dropped).reduce((total, count) => total + count, 0);
      const before = this.#letGo.get(lane) ?? 0;
      this.#letGo.set(lane, sum);
      this.#set(`outbox.${lane}.dropping`, sum > before, {
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
