/** Jobs under a fake clock: rhythm, overlap, failures, the end, and jumps of the wall clock. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Logger, silentLog } from "../../../agent/core/log.ts";
import { type CronOptions, Schedule } from "../../../agent/schedule/schedule.ts";
import { FakeClock } from "../../support/fake-clock.ts";

const never = new AbortController().signal;
const minuteMs = 60_000;
const hourMs = 3_600_000;

/** Counts sleeps, since a hot loop is one that sleeps too often. */
class CountingClock extends FakeClock {
  sleeps = 0;
  override sleep(ms: number, signal: AbortSignal): Promise<void> {
    this.sleeps++;
    return super.sleep(ms, signal);
  }
}

async function started(log: Logger = silentLog) {
  const clock = new CountingClock({ wallMs: Date.UTC(2026, 2, 1) });
  const schedule = new Schedule({}, { clock, log });
  await schedule.start(never);
  return { clock, schedule };
}

function counting(schedule: Schedule, options: Partial<CronOptions> = {}) {
  const at: number[] = [];
  schedule.cron("job", { expression: "* * * * *", timeZone: "UTC", ...options }, () => {
    at.push(0);
  });
  return at;
}

test("an interval job keeps its beat, whatever the wall clock does", async () => {
  const { clock, schedule } = await started();
  let runs = 0;
  schedule.every("beat", 5_000, () => {
    runs++;
  });
  await clock.advance(4_999);
  expect(runs).toBe(0);
  await clock.advance(1);
  expect(runs).toBe(1);
  clock.jumpWall(56 * 365 * 24 * hourMs);
  await clock.advance(5_000);
  clock.jumpWall(-100 * 365 * 24 * hourMs);
  await clock.advance(10_000);
  expect(runs).toBe(4);
});

test("times in the list are whole milliseconds, whatever the clock counts in", async () => {
  const clock = new FakeClock({ monotonicMs: 1_000.25 });
  const schedule = new Schedule({}, { clock, log: silentLog });
  await schedule.start(never);
  schedule.every("beat", 100, () => clock.sleep(0.5, never));
  await clock.advance(100);
  await clock.advance(33.4);
  const [job] = schedule.list();
  expect([job?.nextAt, job?.lastDurationMs].map(Number.isInteger)).toEqual([true, true]);
});

test("a job never overlaps itself, and what it was due for meanwhile is counted", async () => {
  const { clock, schedule } = await started();
  let finish = (): void => undefined;
  let running = 0;
  let most = 0;
  schedule.every("slow", 1_000, async () => {
    most = Math.max(most, ++running);
    await new Promise<void>((resolve) => {
      finish = resolve;
    });
    running--;
  });
  await clock.advance(5_000);
  expect(schedule.list()[0]).toMatchObject({ running: true, runs: 1, skipped: 4 });
  finish();
  await clock.advance(1_000);
  expect(schedule.list()[0]).toMatchObject({ running: true, runs: 2, skipped: 4 });
  expect(schedule.list()[0]?.lastDurationMs).toBeNull();
  expect(most).toBe(1);
  finish();
});

test("what a job throws is counted, logged ever more seldom, and stops nothing", async () => {
  const logged: unknown[] = [];
  const log: Logger = {
    ...silentLog,
    warn: (_event, fields) => void logged.push(fields?.["inARow"]),
    child: () => log,
  };
  const { clock, schedule } = await started(log);
  let beats = 0;
  schedule.every("bad", 1_000, () => {
    throw new Error("no such file");
  });
  schedule.every("good", 1_000, () => {
    beats++;
  });
  await clock.advance(10_000);
  const bad = schedule.list().find(({ name }) => name === "bad");
  expect(bad).toMatchObject({ runs: 10, errors: 10, lastError: "no such file" });
  expect(beats).toBe(10);
  expect(logged).toEqual([1, 2, 4, 8]);
});

test("a cron job runs at its times, and the list says when next", async () => {
  const { clock, schedule } = await started();
  const runs = counting(schedule, { expression: "30 0 1 * *" });
  expect(schedule.list()).toEqual([
    {
      name: "job",
      kind: "cron",
      schedule: "30 0 1 * *",
      running: false,
      nextAt: Date.UTC(2026, 2, 1, 0, 30),
      lastAt: null,
      lastDurationMs: null,
      lastError: null,
      runs: 0,
      errors: 0,
      skipped: 0,
      catchUps: 0,
    },
  ]);
  await clock.advance(30 * minuteMs);
  expect(runs.length).toBe(1);
  expect(schedule.list()[0]).toMatchObject({
    lastAt: Date.UTC(2026, 2, 1, 0, 30),
    nextAt: Date.UTC(2026, 3, 1, 0, 30),
  });
});

test("a jump forward makes one run of all it passed over, or none", async () => {
  for (const jump of [2 * hourMs, 56 * 365.25 * 24 * hourMs]) {
    for (const missed of ["once", "skip"] as const) {
      const { clock, schedule } = await started();
      const runs = counting(schedule, { expression: "0 */5 * * * *", missed });
      await clock.advance(6 * minuteMs);
      expect(runs.length).toBe(1);
      clock.jumpWall(jump);
      await clock.advance(minuteMs); // Noticed within this.
      expect(runs.length).toBe(missed === "once" ? 2 : 1);
      const before = runs.length;
      await clock.advance(30 * minuteMs);
      expect(runs.length - before).toBe(6);
      expect(schedule.list()[0]?.catchUps).toBe(missed === "once" ? 1 : 0);
      await schedule.stop(never);
    }
  }
});

test("a jump back neither silences a job nor runs it", async () => {
  const { clock, schedule } = await started();
  const runs = counting(schedule, { expression: "*/5 * * * * *" });
  await clock.advance(minuteMs);
  expect(runs.length).toBe(12);
  clock.jumpWall(-hourMs);
  await clock.advance(10 * minuteMs);
  expect(runs.length).toBeGreaterThanOrEqual(12 + 119);
  expect(runs.length).toBeLessThanOrEqual(12 + 120);
});

test("a small step back repeats no run", async () => {
  const { clock, schedule } = await started();
  const runs = counting(schedule, { expression: "0 1 * * *" });
  await clock.advance(hourMs + 1_000);
  expect(runs.length).toBe(1);
  clock.jumpWall(-30_000);
  await clock.advance(5 * minuteMs);
  expect(runs.length).toBe(1);
});

test("from a clock at 1970 to the right time: one catch-up, then the rhythm", async () => {
  const clock = new CountingClock({ wallMs: 0, trusted: false });
  const schedule = new Schedule({}, { clock, log: silentLog });
  await schedule.start(never);
  const runs = counting(schedule, { expression: "@hourly" });
  clock.jumpWall(Date.UTC(2026, 5, 1, 0, 10));
  clock.setTrusted(true);
  await clock.advance(minuteMs);
  expect(runs.length).toBe(1);
  await clock.advance(3 * hourMs);
  expect(runs.length).toBe(4);
});

test("a clock outside of all years stops cron jobs until it is back", async () => {
  const { clock, schedule } = await started();
  const runs = counting(schedule);
  clock.jumpWall(8e15);
  await clock.advance(5 * minuteMs);
  const before = runs.length;
  expect(schedule.list()[0]?.nextAt).toBeNull();
  clock.jumpWall(-8e15);
  await clock.advance(5 * minuteMs);
  expect(runs.length - before).toBeGreaterThanOrEqual(3);
});

test("however the clock jumps: at most one extra run a jump, no hot loop, the rhythm returns", async () => {
  const step = fc.oneof(
    fc.record({ advance: fc.integer({ min: 1, max: 20 * minuteMs }) }),
    fc.record({
      jump: fc.oneof(
        fc.integer({ min: -2_000, max: 2_000 }),
        fc.integer({ min: -3 * hourMs, max: 3 * hourMs }),
        fc.integer({ min: -20, max: 20 }).map((years) => years * 365 * 24 * hourMs),
      ),
    }),
  );
  const expression = fc.constantFrom(
    "0 * * * * *",
    "*/10 * * * * *",
    "0 */7 * * * *",
    "0 30 3 * * *",
  );
  const missed = fc.constantFrom("once" as const, "skip" as const);
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 12 }),
      expression,
      missed,
      async (steps, cron, policy) => {
        const { clock, schedule } = await started();
        const runs = counting(schedule, { expression: cron, missed: policy });
        let jumps = 0;
        let elapsedMs = 0;
        for (const it of steps) {
          if ("jump" in it) {
            clock.jumpWall(it.jump);
            jumps++;
          } else {
            elapsedMs += it.advance;
            await clock.advance(it.advance);
          }
        }
        const periodMs = cron === "*/10 * * * * *" ? 10_000 : minuteMs; // At most so often.
        const regular = Math.floor(elapsedMs / periodMs) + 1;
        expect(runs.length).toBeLessThanOrEqual(regular + jumps * 2);
        expect(schedule.list()[0]?.catchUps).toBeLessThanOrEqual(jumps);
        expect(clock.sleeps).toBeLessThanOrEqual(
          10 + elapsedMs / minuteMs + 2 * runs.length + 3 * jumps + elapsedMs / periodMs,
        );
        await clock.advance(minuteMs);
        if (cron === "*/10 * * * * *") {
          const before = runs.length;
          await clock.advance(10 * minuteMs);
          expect(runs.length - before).toBe(60);
        }
        await schedule.stop(never);
      },
    ),
    { numRuns: 60 },
  );
});

test("names are taken once; a wrong expression is refused; a cancelled job is gone", async () => {
  const { clock, schedule } = await started();
  let runs = 0;
  let signal: AbortSignal | undefined;
  schedule.every("a", 1_000, (given) => {
    signal = given;
    runs++;
    return new Promise(() => undefined);
  });
  expect(() => schedule.every("a", 1_000, () => undefined)).toThrow("already");
  expect(() => schedule.cron("b", { expression: "x" }, () => undefined)).toThrow("fields");
  await clock.advance(1_000);
  expect(schedule.cancel("a")).toBe(true);
  expect(schedule.cancel("a")).toBe(false);
  expect(signal?.aborted).toBe(true);
  await clock.advance(10_000);
  expect(runs).toBe(1);
  expect(schedule.list()).toEqual([]);
});

test("stop ends the loop, tells running jobs, and waits for them until the deadline", async () => {
  const { clock, schedule } = await started();
  let ended = false;
  schedule.every("polite", 1_000, async (signal) => {
    await clock.sleep(Number.POSITIVE_INFINITY, signal);
    ended = true;
  });
  await clock.advance(1_000);
  await schedule.stop(never);
  expect(ended).toBe(true);
  expect(clock.sleeping).toBe(0);

  const second = await started();
  second.schedule.every("rude", 1_000, () => new Promise(() => undefined));
  await second.clock.advance(1_000);
  const deadline = new AbortController();
  const stopped = second.schedule.stop(deadline.signal);
  deadline.abort();
  await stopped;
  await second.schedule.start(never); // Stopped stays stopped.
  expect(second.clock.sleeping).toBe(0);
});
