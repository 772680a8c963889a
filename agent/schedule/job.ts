import type { Clock } from "../core/clock.ts";
import { describeError } from "../core/errors.ts";
import { LinkedAbort } from "../core/linked-abort.ts";
import type { Logger } from "../core/log.ts";
import type { Calendar } from "./calendar.ts";

export type Run = (signal: AbortSignal) => Promise<void> | void;

/** Both times of one moment. */
export interface Now {
  readonly wallMs: number;
  readonly monotonicMs: number;
}

export interface JobStatus {
  readonly name: string;
  readonly kind: "interval" | "cron";
  /** `every 60000 ms`, or the cron expression. */
  readonly schedule: string;
  readonly running: boolean;
  /** Unix milliseconds; null: unknown or never. */
  readonly nextAt: number | null;
  readonly lastAt: number | null;
  readonly lastDurationMs: number | null;
  readonly lastError: string | null;
  readonly runs: number;
  readonly errors: number;
  /** Times it was due while it still ran. */
  readonly skipped: number;
  /** Runs that stand for due times which a clock jump passed over. */
  readonly catchUps: number;
}

/** What a turn of the loop makes of a job. */
type Due = "no" | "run" | "catch-up";

export class IntervalTimer {
  readonly kind = "interval";
  readonly schedule: string;
  readonly #everyMs: number;
  #dueMs = 0;

  constructor(everyMs: number) {
    this.#everyMs = everyMs;
    this.schedule = `every ${everyMs} ms`;
  }

  arm(now: Now): void {
    this.#dueMs = now.monotonicMs + this.#everyMs;
  }

  /** Says whether it is due and arms it for the next beat that is still to come. */
  turn(now: Now): Due {
    if (now.monotonicMs < this.#dueMs) return "no";
    const beats = Math.floor((now.monotonicMs - this.#dueMs) / this.#everyMs) + 1;
    this.#dueMs += beats * this.#everyMs;
    return "run";
  }

  dueInMs(now: Now): number {
    return this.#dueMs - now.monotonicMs;
  }
}

/** A jump back of at most this repeats no due time: time servers step clocks by so little. */
const smallStepMs = 60_000;

export class CronTimer {
  readonly kind = "cron";
  readonly schedule: string;
  readonly #calendar: Calendar;
  readonly #missed: "once" | "skip";
  #dueMs: number | undefined;
  #lastDueMs = Number.NEGATIVE_INFINITY;

  constructor(schedule: string, calendar: Calendar, missed: "once" | "skip") {
    this.schedule = schedule;
    this.#calendar = calendar;
    this.#missed = missed;
  }

  arm(now: Now): void {
    this.#dueMs = this.#calendar.next(now.wallMs);
  }

  /** `jumpMs`: how far the wall clock jumped since the last turn. */
  turn(now: Now, jumpMs: number): Due {
    if (jumpMs < 0) {
      const step = -jumpMs <= smallStepMs;
      this.#dueMs = this.#calendar.next(step ? Math.max(now.wallMs, this.#lastDueMs) : now.wallMs);
      return "no";
    }
    if (this.#dueMs === undefined) {
      this.arm(now); // The clock was outside of all years; perhaps it no longer is.
      return "no";
    }
    if (now.wallMs < this.#dueMs) return "no";
    const missed = now.wallMs - jumpMs < this.#dueMs;
    this.#lastDueMs = this.#dueMs;
    this.arm(now);
    if (!missed) return "run";
    return this.#missed === "once" ? "catch-up" : "no";
  }

  dueInMs(now: Now): number {
    return this.#dueMs === undefined ? Number.POSITIVE_INFINITY : this.#dueMs - now.wallMs;
  }
}

export interface JobDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** Aborts when the schedule stops. */
  readonly life: AbortSignal;
}

export class Job {
  readonly name: string;
  readonly timer: IntervalTimer | CronTimer;
  readonly #run: Run;
  readonly #deps: JobDeps;
  readonly #cancelled = new AbortController();
  #running: Promise<void> | undefined;
  #counts = { runs: 0, errors: 0, skipped: 0, catchUps: 0 };
  #last: { at: number; durationMs: number | null; error: string | null } | undefined;
  #failuresInARow = 0;

  constructor(
    options: { name: string; timer: IntervalTimer | CronTimer; run: Run },
    deps: JobDeps,
  ) {
    this.name = options.name;
    this.timer = options.timer;
    this.#run = options.run;
    this.#deps = deps;
  }

  /** The run that is under way; never rejects. */
  get running(): Promise<void> | undefined {
    return this.#running;
  }

  turn(now: Now, jumpMs: number): void {
    const due = this.timer.turn(now, jumpMs);
    if (due === "no") return;
    if (this.#running !== undefined) {
      this.#counts.skipped++;
      return;
    }
    if (due === "catch-up") this.#counts.catchUps++;
    this.#running = this.#execute().finally(() => {
      this.#running = undefined;
    });
  }

  cancel(): void {
    this.#cancelled.abort();
  }

  status(now: Now): JobStatus {
    const dueInMs = this.timer.dueInMs(now);
    return {
      name: this.name,
      kind: this.timer.kind,
      schedule: this.timer.schedule,
      running: this.#running !== undefined,
      nextAt: Number.isFinite(dueInMs) ? Math.round(now.wallMs + dueInMs) : null,
      lastAt: this.#last?.at ?? null,
      lastDurationMs: this.#last?.durationMs ?? null,
      lastError: this.#last?.error ?? null,
      ...this.#counts,
    };
  }

  async #execute(): Promise<void> {
    const { clock, life } = this.#deps;
    const startMs = clock.monotonicMs();
    const last = {
      at: clock.wallMs(),
      durationMs: null as number | null,
      error: null as string | null,
    };
    this.#last = last;
    this.#counts.runs++;
    const linked = new LinkedAbort(life, this.#cancelled.signal);
    const { signal } = linked;
    try {
      await this.#run(signal);
      this.#failuresInARow = 0;
    } catch (error) {
      if (signal.aborted) return; // Cancelled is not failed.
      last.error = describeError(error);
      this.#failed(last.error);
    } finally {
      linked.release();
      last.durationMs = Math.round(clock.monotonicMs() - startMs);
    }
  }

  /** Logs the first failure, and then ever more seldom while it goes on failing. */
  #failed(error: string): void {
    this.#counts.errors++;
    const row = ++this.#failuresInARow;
    if ((row & (row - 1)) !== 0) return;
    this.#deps.log.warn("job failed", { job: this.name, error, inARow: row });
  }
}
