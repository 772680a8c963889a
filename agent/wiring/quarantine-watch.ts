import type { Alarms } from "../health/health.ts";
import type { DurableOutbox } from "../outbox/outbox.ts";

/** Each topic has an alarm of its own, up to so many; the rest is in the one about all. */
const TOPIC_ALARMS = 10;
const ALL = "outbox.quarantine";

/** Reports what is in quarantine: one alarm as long as there is something, one for each topic. */
export class QuarantineWatch {
  readonly #quarantine: Pick<DurableOutbox["quarantine"], "cases">;
  readonly #alarms: Pick<Alarms, "raise" | "clear" | "list">;

  constructor(parts: {
    readonly outbox: { readonly quarantine: Pick<DurableOutbox["quarantine"], "cases"> };
    readonly alarms: Pick<Alarms, "raise" | "clear" | "list">;
  }) {
    this.#quarantine = parts.outbox.quarantine;
    this.#alarms = parts.alarms;
  }

  look(): void {
    const wanted = new Map<string, string>();
    for (const { topic, reason, scope } of this.#quarantine.cases) {
      const what = scope === "topic" ? "Messages" : "A message";
      const cause = `${what} to ${topic} set aside: ${reason}.`;
      if (wanted.size === 0) wanted.set(ALL, cause);
      const name = nameOf(topic);
      if (wanted.size <= TOPIC_ALARMS && !wanted.has(name)) wanted.set(name, cause);
    }
    for (const [name, cause] of wanted) this.#alarms.raise(name, { severity: "warning", cause });
    for (const { alarm } of this.#alarms.list()) {
      const ours = alarm === ALL || alarm.startsWith(`${ALL}.`);
      if (ours && !wanted.has(alarm)) this.#alarms.clear(alarm);
    }
  }
}

/** As the alarms write it. */
function nameOf(topic: string): string {
  const plain = topic.toLowerCase().replaceAll(/[^a-z0-9._-]/g, "_");
  return `${ALL}.${plain}`.slice(0, 128);
}
