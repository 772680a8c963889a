import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AssertionFailure } from "../../../agent/core/assert.ts";
import { backoffCeilingMs, backoffMs } from "../../../agent/core/backoff.ts";
import { withDeadline } from "../../../agent/core/clock.ts";
import { SystemClock } from "../../../agent/core/system-clock.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { SeededRandom } from "../../support/seeded-random.ts";

const never = new AbortController().signal;

describe("back-off", () => {
  test("the ceiling doubles from the least to the most and stays there", () => {
    const options = { minMs: 1_000, maxMs: 60_000 };
    const ceilings = [0, 1, 2, 5, 6, 7, 1_000, 1e9].map((n) => backoffCeilingMs(n, options));
    expect(ceilings).toEqual([1_000, 2_000, 4_000, 32_000, 60_000, 60_000, 60_000, 60_000]);
  });

  test("a wait is between nothing and the ceiling, for every attempt", () => {
    const cases = fc.tuple(fc.nat(200), fc.nat(100_000), fc.nat(1e7), fc.nat());
    fc.assert(
      fc.property(cases, ([attempt, min, more, seed]) => {
        const options = { minMs: min + 1, maxMs: min + 1 + more };
        const ms = backoffMs(attempt, options, new SeededRandom(seed));
        expect(ms).toBeGreaterThanOrEqual(0);
        expect(ms).toBeLessThan(backoffCeilingMs(attempt, options));
      }),
    );
  });

  test("a fleet is spread over the whole span", () => {
    const random = new SeededRandom(7);
    const tenths = new Array<number>(10).fill(0);
    for (let i = 0; i < 10_000; i++) {
      const ms = backoffMs(3, { minMs: 1_000, maxMs: 60_000 }, random);
      const tenth = Math.floor(ms / 800);
      tenths[tenth] = (tenths[tenth] ?? 0) + 1;
    }
    expect(tenths.length).toBe(10);
    expect(Math.min(...tenths)).toBeGreaterThan(800);
  });

  test("options that make no sense are a broken assumption", () => {
    expect(() => backoffCeilingMs(-1, { minMs: 1, maxMs: 2 })).toThrow(AssertionFailure);
    expect(() => backoffCeilingMs(0, { minMs: 0, maxMs: 2 })).toThrow(AssertionFailure);
    expect(() => backoffCeilingMs(0, { minMs: 3, maxMs: 2 })).toThrow(AssertionFailure);
  });
});

describe("the system's clock", () => {
  test("sleeps no shorter than asked", async () => {
    const clock = new SystemClock();
    for (const ms of [1, 5, 20]) {
      const start = clock.monotonicMs();
      await clock.sleep(ms, never);
      expect(clock.monotonicMs() - start).toBeGreaterThanOrEqual(ms);
    }
  });

  test.each([0, -5])("a sleep of %i ms is none", async (ms) => {
    await new SystemClock().sleep(ms, never);
  });

  // 2^31 ms and more make a timer of Node fire at once.
  test.each([2 ** 31, Number.MAX_SAFE_INTEGER, Number.POSITIVE_INFINITY])(
    "a sleep of %d ms lasts until it is aborted",
    async (ms) => {
      const clock = new SystemClock();
      const given = new AbortController();
      let over = false;
      const sleep = clock.sleep(ms, given.signal).then(() => {
        over = true;
      });
      await clock.sleep(10, never);
      expect(over).toBe(false);
      given.abort();
      await sleep;
      await clock.sleep(Number.POSITIVE_INFINITY, given.signal);
    },
  );

  test("monotonic time does not go back, and trust is asked each time", () => {
    let trusted = false;
    const clock = new SystemClock(() => trusted);
    expect(clock.trusted()).toBe(false);
    trusted = true;
    expect(clock.trusted()).toBe(true);
    let last = clock.monotonicMs();
    for (let i = 0; i < 1_000; i++) {
      const now = clock.monotonicMs();
      expect(now).toBeGreaterThanOrEqual(last);
      last = now;
    }
  });
});

describe("withDeadline", () => {
  test("work in time gives its value, and no sleeper is left", async () => {
    const clock = new FakeClock();
    const result = withDeadline(clock, 100, never, async (signal) => {
      await clock.sleep(50, signal);
      return signal.aborted ? "aborted" : "value";
    });
    await clock.advance(50);
    expect(await result).toEqual({ timedOut: false, value: "value" });
    expect(clock.sleeping).toBe(0);
  });

  test("work that ignores its signal is left alone after the deadline, even if it fails later", async () => {
    const clock = new FakeClock();
    let fail: (error: Error) => void = () => undefined;
    let given: AbortSignal | undefined;
    const result = withDeadline(clock, 100, never, (signal) => {
      given = signal;
      return new Promise<never>((_, reject) => {
        fail = reject;
      });
    });
    await clock.advance(99);
    expect(given?.aborted).toBe(false);
    await clock.advance(1);
    expect(await result).toEqual({ timedOut: true });
    expect(given?.aborted).toBe(true);
    fail(new Error("too late to matter")); // Unhandled, it would fail the test run.
    expect(clock.sleeping).toBe(0);
  });

  test("work that fails in time fails the call", async () => {
    const clock = new FakeClock();
    const failing = withDeadline(clock, 100, never, () => Promise.reject(new Error("no")));
    await expect(failing).rejects.toThrow("no");
    expect(clock.sleeping).toBe(0);
  });

  test("the caller's abort reaches the work and is no timeout", async () => {
    const clock = new FakeClock();
    const caller = new AbortController();
    const result = withDeadline(clock, 100, caller.signal, async (signal) => {
      await clock.sleep(1_000, signal);
      return signal.aborted;
    });
    caller.abort();
    expect(await result).toEqual({ timedOut: false, value: true });
    expect(clock.sleeping).toBe(0);
  });
});
