import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  nextAttempt,
  noHistory,
  type Outcome,
  type ReconnectHistory,
} from "../../../agent/connection/reconnect-policy.ts";
import type { Random } from "../../../agent/core/random.ts";
import { SeededRandom } from "../../support/seeded-random.ts";

const options = { minMs: 500, maxMs: 120_000, refusedMinMs: 10_000, takeoverMinMs: 30_000 };

function constant(value: number): Random {
  return { float: () => value, bytes: (count) => new Uint8Array(count) };
}

const highest = constant(0.999_999);
const lowest = constant(0);

/** The waits after a row of outcomes, with the time each outcome took. */
function waits(
  outcomes: readonly (readonly [Outcome, number])[],
  random: Random,
): { delayMs: number; state: string; history: ReconnectHistory }[] {
  let history = noHistory;
  let nowMs = 1_000;
  return outcomes.map(([outcome, tookMs]) => {
    nowMs += tookMs;
    const next = nextAttempt(history, outcome, { nowMs, options, random });
    history = next.history;
    nowMs += next.delayMs;
    return next;
  });
}

const failed: Outcome = { kind: "failed" };
const refused: Outcome = { kind: "refused" };
const ended = (onlineMs: number, takenOver = false): Outcome => ({
  kind: "ended",
  onlineMs,
  takenOver,
});
const rounded = (list: readonly { delayMs: number }[]) =>
  list.map(({ delayMs }) => Math.round(delayMs));

describe("the reconnect policy", () => {
  test("doubles the ceiling from min to max, with full jitter below it", () => {
    const many = Array.from({ length: 10 }, () => [failed, 0] as const);
    expect(rounded(waits(many, highest))).toEqual([
      500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 120_000, 120_000,
    ]);
    expect(rounded(waits(many, lowest))).toEqual(Array(10).fill(50));
    const half = rounded(waits(many, constant(0.5)));
    expect(half.slice(0, 3)).toEqual([250, 500, 1_000]);
  });

  test("counts from 0 again only after 60 s online", () => {
    const climb = Array.from({ length: 5 }, () => [failed, 0] as const);
    const short = waits([...climb, [ended(59_999), 59_999]], highest);
    expect(rounded(short).at(-1)).toBe(16_000);
    const long = waits([...climb, [ended(60_000), 60_000], [failed, 0]], highest);
    expect(rounded(long).slice(-2)).toEqual([500, 1_000]);
  });

  test("refused credentials wait in their own, slower line, in the state refused", () => {
    const list = waits(
      Array.from({ length: 6 }, () => [refused, 0] as const),
      highest,
    );
    expect(rounded(list)).toEqual([20_000, 40_000, 80_000, 120_000, 120_000, 120_000]);
    expect(list.every(({ state }) => state === "refused")).toBe(true);
    const low = waits(
      [
        [refused, 0],
        [failed, 0],
        [refused, 0],
      ],
      lowest,
    );
    expect(rounded(low)).toEqual([10_000, 50, 10_000]);
    expect(low[1]?.state).toBe("backing-off");
    const healed = waits(
      [
        [refused, 0],
        [refused, 0],
        [ended(1), 1],
        [refused, 0],
      ],
      highest,
    );
    expect(rounded(healed).at(-1)).toBe(20_000);
  });

  test("the third take-over within five minutes slows down, an old one does not count", () => {
    const three = waits(Array(5).fill([ended(1_000, true), 1_000]), lowest);
    expect(rounded(three)).toEqual([50, 50, 30_000, 30_000, 30_000]);
    const doubling = rounded(waits(Array(5).fill([ended(1_000, true), 1_000]), highest));
    expect(doubling.slice(2)).toEqual([60_000, 120_000, 120_000]);
    const spread = waits(Array(5).fill([ended(200_000, true), 200_000]), lowest);
    expect(rounded(spread)).toEqual(Array(5).fill(50));
    const others = waits(Array(8).fill([ended(1_000, false), 1_000]), lowest);
    expect(rounded(others)).toEqual(Array(8).fill(50));
  });

  const anyOutcome = fc.oneof(
    fc.constant(failed),
    fc.constant(refused),
    fc.record({
      kind: fc.constant("ended" as const),
      onlineMs: fc.integer({ min: 0, max: 200_000 }),
      takenOver: fc.boolean(),
    }),
  );

  test("I9: no outcome and no luck leads to a hot loop, and no wait is over its ceiling", () => {
    fc.assert(
      fc.property(
        fc.array(anyOutcome, { maxLength: 200 }),
        fc.double({ min: 0, max: 0.999_999, noNaN: true }),
        (outcomes, luck) => {
          const row = outcomes.map((outcome) => {
            return [outcome, outcome.kind === "ended" ? outcome.onlineMs : 0] as const;
          });
          for (const { delayMs, history, state } of waits(row, constant(luck))) {
            expect(delayMs).toBeGreaterThanOrEqual(options.minMs / 10);
            expect(delayMs).toBeLessThanOrEqual(options.maxMs);
            if (state === "refused") expect(delayMs).toBeGreaterThanOrEqual(options.refusedMinMs);
            expect(history.takeovers.length).toBeLessThanOrEqual(32);
          }
        },
      ),
    );
  });

  test("I9: an hour of a service that is down, or accepts and closes at once, is few attempts", () => {
    for (const outcome of [failed, ended(0), ended(0, true), refused]) {
      for (let seed = 1; seed <= 20; seed++) {
        const random = new SeededRandom(seed);
        let history = noHistory;
        let attempts = 0;
        for (let nowMs = 0; nowMs < 3_600_000; attempts++) {
          const next = nextAttempt(history, outcome, { nowMs, options, random });
          history = next.history;
          nowMs += next.delayMs;
        }
        // On average 60 s apart at the ceiling, and some at the beginning.
        expect(attempts).toBeLessThan(110);
        expect(attempts).toBeGreaterThan(20);
      }
    }
  });

  test("1,000 devices that lost their service together come back spread over the span", () => {
    const random = new SeededRandom(3);
    const list = Array.from({ length: 1_000 }, () => {
      const history = { ...noHistory, attempt: 8 };
      return nextAttempt(history, failed, { nowMs: 0, options, random }).delayMs;
    });
    const perTenth = Array.from({ length: 10 }, (_, i) => {
      const inside = (ms: number) => ms >= i * 12_000 && ms < (i + 1) * 12_000;
      return list.filter(inside).length;
    });
    expect(Math.min(...perTenth)).toBeGreaterThan(60);
    expect(Math.max(...perTenth)).toBeLessThan(140);
  });
});
