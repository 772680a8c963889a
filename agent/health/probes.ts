import type { Clock } from "../core/clock.ts";
import { LinkedAbort } from "../core/linked-abort.ts";

/** What the machine says of itself; each value is null where nobody knows. */
export interface SystemFacts {
  readonly cpu: { readonly loadPercent: number; readonly cores: number } | null;
  readonly mem: { readonly totalBytes: number; readonly availableBytes: number } | null;
  /** The file system that holds the state folder. */
  readonly disk: { readonly totalBytes: number; readonly availableBytes: number } | null;
  readonly tempC: number | null;
}

/** How each value is asked for; may throw, may hang. */
export type SystemProbes = {
  readonly [K in keyof SystemFacts]: () => Promise<SystemFacts[K]>;
};

/**
 * Asks every probe at once and gives each its time. One that fails or is late is null in this
 * answer; one that still hangs from last time is not asked again, so hung probes cannot pile up.
 */
export class Probes {
  readonly #probes: SystemProbes;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #hanging = new Set<string>();

  constructor(options: { timeoutMs: number }, deps: { probes: SystemProbes; clock: Clock }) {
    this.#timeoutMs = options.timeoutMs;
    this.#probes = deps.probes;
    this.#clock = deps.clock;
  }

  async read(signal: AbortSignal): Promise<SystemFacts> {
    const [cpu, mem, disk, tempC] = await Promise.all([
      this.#ask("cpu", this.#probes.cpu, signal),
      this.#ask("mem", this.#probes.mem, signal),
      this.#ask("disk", this.#probes.disk, signal),
      this.#ask("tempC", this.#probes.tempC, signal),
    ]);
    return { cpu, mem, disk, tempC };
  }

  async #ask<T>(name: string, probe: () => Promise<T>, signal: AbortSignal): Promise<T | null> {
    if (this.#hanging.has(name)) return null;
    this.#hanging.add(name);
    const answer = this.#answer(probe, name);
    const life = new LinkedAbort(signal);
    void this.#clock.sleep(this.#timeoutMs, life.over).then(() => life.abort());
    try {
      return (await Promise.race([answer, life.aborted])) ?? null;
    } finally {
      life.release();
    }
  }

  async #answer<T>(probe: () => Promise<T>, name: string): Promise<T | null> {
    try {
      return await probe();
    } catch {
      return null; // A machine without a sensor is no event; the report shows the null.
    } finally {
      this.#hanging.delete(name);
    }
  }
}
