/** Job E, a fixed sample of what `npm run campaign -- row-e` runs: I1, I2 and I3 over one fault each. */
import { expect, test } from "vitest";
import { killRun } from "../../support/row-e/kill.ts";
import { powerRun } from "../../support/row-e/power.ts";
import { rowOf } from "../../support/row-e/run.ts";
import { isKept, tableOf } from "../../support/row-e/table.ts";

test.each([
  ["kill -9", "offline", killRun, 2],
  ["kill -9", "online", killRun, 2],
  ["power cut", "offline", powerRun, 5],
  ["power cut", "online", powerRun, 5],
] as const)(
  "E: %s, %s: nothing lost, nothing out of order, few again",
  async (fault, link, run, seeds) => {
    const row = await rowOf(fault, link, run, seeds);
    process.stdout.write(`${tableOf([row])}\n`);
    expect(isKept(row)).toBe(true);
  },
);
