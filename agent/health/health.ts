/**
 * Tells the service how the device is: a report (report.ts, report.schema.json) at every interval,
 * at each connect and on a change of state; and the alarms (alarms.ts).
 *
 * Invariants
 * - At most one report in 5 s, however often it is woken: a flapping link or plugin gives one
 *   report with the latest state, not a flood. Each wake is answered by a report made after it.
 * - No source can stop the report: a probe that fails, hangs or throws is null in it.
 * - Reports go through the outbox like everything else, so offline ones arrive later, in order;
 *   one that the outbox refuses is counted and not repeated, since the next one says more.
 *
 * The nonce proves freshness while the clock cannot: it is random per start of the process, which
 * is at least once per boot of the device, so a command that quotes it cannot be older than that.
 *
 * Restarted: nothing here is durable but the alarms.
 */
import type { Clock } from "../core/clock.ts";
import type { Component } from "../core/component.ts";
import { describeError } from "../core/errors.ts";
import { LinkedAbort } from "../core/linked-abort.ts";
import type { Logger } from "../core/log.ts";
import type { Random } from "../core/random.ts";
import { Wakeup } from "../core/wakeup.ts";
import type { RaisedAlarm } from "./alarms.ts";
import type { HealthOutgoing } from "./port.ts";
import { Probes, type SystemProbes } from "./probes.ts";
import { buildReport, type Report, type ReportFacts } from "./report.ts";

export { Alarms, type RaisedAlarm } from "./alarms.ts";
export type { HealthOutgoing } from "./port.ts";
export type { SystemProbes } from "./probes.ts";
export type { Report } from "./report.ts";
export { systemProbes } from "./system-probes.ts";

export interface HealthOptions {
  /** `<up>/health/<device>` */
  readonly topic: string;
  /** Milliseconds between two reports when nothing happens; at least 5,000. */
  readonly intervalMs: number;
  /** From `newNonce`. */
  readonly nonce: string;
  /** Milliseconds that each probe of the machine may take; default 3,000. */
  readonly probeTimeoutMs?: number;
}

/** What the report is made of. Each may throw; its part of the report is null then. */
export interface HealthSources {
  agent(): NonNullable<ReportFacts["agent"]>;
  clock(): NonNullable<ReportFacts["clock"]>;
  connection(): NonNullable<ReportFacts["connection"]>;
  outbox(): NonNullable<ReportFacts["outbox"]>;
  commands(): NonNullable<ReportFacts["commands"]>;
  plugins(): NonNullable<ReportFacts["plugins"]>;
  credentials(): NonNullable<ReportFacts["credentials"]>;
  alarms(): readonly RaisedAlarm[];
}

export interface HealthDeps {
  readonly sources: HealthSources;
  readonly probes: SystemProbes;
  readonly outgoing: HealthOutgoing;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Why a report was made beside the interval. */
export type WakeReason = "start" | "connect" | "state" | "alarm";

export interface HealthStats {
  readonly sent: number;
  readonly failed: number;
  /** Unix milliseconds of the last report; null: none yet. */
  readonly lastAt: number | null;
}

const lane = "event";
const leastGapMs = 5_000;
const defaultProbeTimeoutMs = 3_000;

export class Health implements Component {
  readonly name = "health";
  readonly #options: HealthOptions;
  readonly #deps: HealthDeps;
  readonly #log: Logger;
  readonly #probes: Probes;
  readonly #wakeup = new Wakeup();
  readonly #life = new AbortController();
  #loop: Promise<void> | undefined;
  #stats: HealthStats = { sent: 0, failed: 0, lastAt: null };
  #failing = false;

  constructor(options: HealthOptions, deps: HealthDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#log = deps.log.child("health");
    const { probes, clock } = deps;
    const timeoutMs = options.probeTimeoutMs ?? defaultProbeTimeoutMs;
    this.#probes = new Probes({ timeoutMs }, { probes, clock });
  }

  /** The first report is made at once. */
  async start(signal: AbortSignal): Promise<void> {
    if (this.#loop || this.#life.signal.aborted) return;
    this.wake("start");
    this.#loop = this.#run(AbortSignal.any([signal, this.#life.signal]));
  }

  async stop(deadline: AbortSignal): Promise<void> {
    this.#life.abort();
    const late = new Promise<void>((resolve) => {
      if (deadline.aborted) resolve();
      deadline.addEventListener("abort", () => resolve(), { once: true });
    });
    await Promise.race([this.#loop, late]);
  }

  /** A report is wanted soon: now, or 5 s after the last one. */
  wake(reason: WakeReason): void {
    this.#log.debug("report wanted", { reason });
    this.#wakeup.notify();
  }

  /** For the status: by the worst alarm that is raised. */
  status(): "ok" | "degraded" | "failing" {
    const raised = this.#deps.sources.alarms().map(({ severity }) => severity);
    if (raised.includes("critical")) return "failing";
    return raised.includes("warning") ? "degraded" : "ok";
  }

  stats(): HealthStats {
    return this.#stats;
  }

  /** The report of this moment. Never rejects. */
  async report(signal: AbortSignal): Promise<Report> {
    const { sources, clock } = this.#deps;
    const system = await this.#probes.read(signal);
    return buildReport({
      at: clock.wallMs(),
      nonce: this.#options.nonce,
      clock: ask(() => sources.clock()),
      agent: ask(() => sources.agent()),
      system,
      connection: ask(() => sources.connection()),
      outbox: ask(() => sources.outbox()),
      commands: ask(() => sources.commands()),
      plugins: ask(() => sources.plugins()),
      alarms: ask(() => sources.alarms()) ?? [],
      credentials: ask(() => sources.credentials()),
    });
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    const { intervalMs } = this.#options;
    let waitMs = intervalMs;
    while (!signal.aborted) {
      const rest = new LinkedAbort(signal);
      await Promise.race([clock.sleep(waitMs, rest.signal), this.#wakeup.wait(rest.signal)]);
      rest.abort(); // Ends the sleep or the wait that is left over.
      if (signal.aborted) return;
      const sentMs = clock.monotonicMs();
      await this.#send(signal);
      // Wakes that come meanwhile are remembered as one.
      await clock.sleep(sentMs + leastGapMs - clock.monotonicMs(), signal);
      waitMs = Math.max(0, sentMs + intervalMs - clock.monotonicMs());
    }
  }

  async #send(signal: AbortSignal): Promise<void> {
    const report = await this.report(signal);
    if (signal.aborted) return;
    const payload = Buffer.from(JSON.stringify(report));
    try {
      await this.#deps.outgoing.put({ topic: this.#options.topic, payload, lane });
      this.#stats = { ...this.#stats, sent: this.#stats.sent + 1, lastAt: report.at ?? null };
      this.#failing = false;
    } catch (error) {
      this.#stats = { ...this.#stats, failed: this.#stats.failed + 1 };
      if (!this.#failing) this.#log.warn("report not accepted", { error: describeError(error) });
      this.#failing = true;
    }
  }
}

/** 96 random bits. */
export function newNonce(random: Random): string {
  return Buffer.from(random.bytes(12)).toString("base64url");
}

function ask<T>(source: () => T): T | null {
  try {
    return source();
  } catch {
    return null; // The part is starting, stopping or broken; the others still report.
  }
}
