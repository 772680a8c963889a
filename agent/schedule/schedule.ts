/**
 * Named jobs: every so many milliseconds, or by a cron expression.
 *
 * Invariants
 * - A job never overlaps itself: due while it runs, it is counted as skipped.
 * - Interval jobs run on monotonic time; no clock jump touches them. One that is late runs once and
 *   then keeps its old beat.
 * - Cron jobs follow the wall clock, which may jump. The loop wakes at least once a minute while
 *   there is one, compares wall and monotonic time, and after a jump arms every cron job anew. A
 *   jump forward over due times makes at most one run of a job (`missed: "once"`) or none (`"skip"`);
 *   a jump back makes none, and one of at most a minute repeats none that has been (I10).
 * - What a job throws is counted and logged, and its next run comes as if nothing had happened.
 *
 * Restarted: nothing here is durable; the jobs are added again and armed from the present moment.
 */
import { assert } from "../core/assert.ts";
import type { Clock } from "../core/clock.ts";
import type { Component } from "../core/component.ts";
import { HoldfastError } from "../core/errors.ts";
import { LinkedAbort } from "../core/linked-abort.ts";
import type { Logger } from "../core/log.ts";
import { Wakeup } from "../core/wakeup.ts";
import { cronCalendar } from "./calendar.ts";
import { CronTimer, IntervalTimer, Job, type JobStatus, type Now, type Run } from "./job.ts";

export type { JobStatus, Run } from "./job.ts";

export interface ScheduleDeps {
  readonly clock: Clock;
  readonly log: Logger;
}

export interface CronOptions {
  /** Five fields, or six with seconds first. */
  readonly expression: string;
  /** Like `Europe/Berlin`; default: the machine's own. */
  readonly timeZone?: string;
  /** What a clock jump over due times makes of them: one run (the default), or none. */
  readonly missed?: "once" | "skip";
}

/** The longest sleep while a cron job waits: a jump is noticed within this. */
const longestSleepMs = 60_000;
/** No wall clock, however it crawls, makes the loop turn faster than this. */
const shortestSleepMs = 10;
/** Wall and monotonic time may part by this much between two wakes without it being a jump. */
const jumpMs = 1_000;
const mostJobs = 1_000;

export class Schedule implements Component {
  readonly name = "schedule";
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #jobs = new Map<string, Job>();
  readonly #wakeup = new Wakeup();
  readonly #life = new AbortController();
  #loop: Promise<void> | undefined;
  #last: Now | undefined;

  constructor(_options: Readonly<Record<string, never>>, deps: ScheduleDeps) {
    this.#clock = deps.clock;
    this.#log = deps.log.child("schedule");
  }

  async start(signal: AbortSignal): Promise<void> {
    if (this.#loop || this.#life.signal.aborted) return;
    this.#loop = this.#run(AbortSignal.any([signal, this.#life.signal]));
  }

  /** Tells running jobs to end and waits for them until the deadline. */
  async stop(deadline: AbortSignal): Promise<void> {
    this.#life.abort();
    await this.#loop;
    const running = Promise.all([...this.#jobs.values()].map((job) => job.running));
    const late = new Promise((resolve) => {
      if (deadline.aborted) resolve(undefined);
      deadline.addEventListener("abort", resolve, { once: true });
    });
    await Promise.race([running, late]);
  }

  /** Adds a job that runs every `everyMs`, for the first time after one such span. */
  every(name: string, everyMs: number, run: Run): void {
    assert(everyMs >= 1 && Number.isFinite(everyMs), "an interval is at least a millisecond");
    this.#add(name, new IntervalTimer(everyMs), run);
  }

  /** Throws `config_invalid` for an expression or a zone that cannot be. */
  cron(name: string, options: CronOptions, run: Run): void {
    const calendar = cronCalendar(options.expression, options.timeZone);
    this.#add(name, new CronTimer(options.expression, calendar, options.missed ?? "once"), run);
  }

  /** Takes the job away; a run that is under way is told to end. False if there was none. */
  cancel(name: string): boolean {
    const job = this.#jobs.get(name);
    job?.cancel();
    return this.#jobs.delete(name);
  }

  list(): readonly JobStatus[] {
    const now = this.#now();
    return [...this.#jobs.values()].map((job) => job.status(now));
  }

  #add(name: string, timer: IntervalTimer | CronTimer, run: Run): void {
    if (this.#jobs.has(name)) {
      throw new HoldfastError("config_invalid", `There is a job named ${name} already.`);
    }
    if (this.#jobs.size >= mostJobs) {
      throw new HoldfastError("too_many", `There are ${mostJobs} jobs already.`);
    }
    timer.arm(this.#now());
    const deps = { clock: this.#clock, log: this.#log, life: this.#life.signal };
    this.#jobs.set(name, new Job({ name, timer, run }, deps));
    this.#wakeup.notify();
  }

  async #run(signal: AbortSignal): Promise<void> {
    this.#last = this.#now();
    while (!signal.aborted) {
      this.#turn();
      const rest = new LinkedAbort(signal);
      await Promise.race([
        this.#clock.sleep(this.#sleepMs(), rest.signal),
        this.#wakeup.wait(rest.signal), // A job was added.
      ]);
      rest.abort(); // Ends the sleep or the wait that is left over.
    }
  }

  #turn(): void {
    const now = this.#now();
    const last = this.#last ?? now;
    const jump = now.wallMs - last.wallMs - (now.monotonicMs - last.monotonicMs);
    this.#last = now;
    const jumped = Math.abs(jump) >= jumpMs ? jump : 0;
    if (jumped !== 0) this.#log.info("clock jumped", { byMs: Math.round(jumped) });
    for (const job of this.#jobs.values()) job.turn(now, jumped);
  }

  #sleepMs(): number {
    const now = this.#now();
    let sleepMs = Number.POSITIVE_INFINITY;
    for (const { timer } of this.#jobs.values()) {
      const dueMs = Math.max(timer.dueInMs(now), shortestSleepMs);
      sleepMs = Math.min(sleepMs, timer.kind === "cron" ? Math.min(dueMs, longestSleepMs) : dueMs);
    }
    return sleepMs;
  }

  #now(): Now {
    return { wallMs: this.#clock.wallMs(), monotonicMs: this.#clock.monotonicMs() };
  }
}
