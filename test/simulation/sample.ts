import { expect, test } from "vitest";
import { explain, runSeeds } from "./schedules.ts";

/** A test over these seeds; a failing one is told cut down to what matters. */
export function expectPromisesKept({ from, count }: { from: number; count: number }): void {
  const name = `I1, I2, I3, I6, I7, I13: schedules of the seeds ${from} to ${from + count - 1}`;
  test(name, { timeout: 600_000 }, async () => {
    const { failed, sums } = await runSeeds(from, count);
    expect(failed === undefined ? "" : await explain(failed)).toBe("");
    // The schedules did go where it hurts.
    const { accepted, restarts, closes, duplicates, dropped, refused } = sums;
    const { reported, replaced, parked, wronged } = sums;
    process.stdout.write(`${count} schedules: ${JSON.stringify(sums)}\n`);
    expect(accepted).toBeGreaterThan(count * 50);
    expect(Math.min(reported, replaced, parked)).toBeGreaterThan(count / 5);
    expect(wronged).toBeLessThan(count / 100);
    expect(Math.min(restarts, closes, duplicates, dropped, refused)).toBeGreaterThan(count / 2);
  });
}
