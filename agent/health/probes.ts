import { type Clock, withDeadline } from "../core/clock.ts";

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
    const answer = this.#answer(name, probe);
    const got = await withDeadline(this.#clock, this.#timeoutMs, signal, () =>
      Promise.race([answer, nullOnAbort(signal)]),
    );
    return got.timedOut ? null : got.value;
  }

  async #answer<T>(name: string, probe: () => Promise<T>): Promise<T | null> {
    try {
      return await probe();
    } catch {
      return null; // A machine without a sensor is no event; the report shows the null.
    } finally {
      this.#hanging.delete(name);
    }
  }
}

function nullOnAbort(signal: AbortSignal): Promise<null> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(null);
    signal.addEventListener("abort", () => resolve(null), { once: true });
  });
}
