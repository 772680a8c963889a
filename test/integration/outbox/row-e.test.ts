/** Job E, a fixed sample of what `npm run campaign -- row-e` runs: I1, I2 and I3 over one fault each. */
import { expect, test } from "vitest";
import { killRun } from "../../support/row-e/kill.ts";
import { powerRun } from "../../support/row-e/power.ts";
import { isKept, type Row, tableOf } from "../../support/row-e/table.ts";

test.each([
  ["kill -9", "offline", killRun, 2],
  ["kill -9", "online", killRun, 2],
  ["power cut", "offline", powerRun, 5],
  ["power cut", "online", powerRun, 5],
] as const)(
  "E: %s, %s: nothing lost, nothing out of order, few again",
  async (fault, link, run, n) => {
    const runs: Row["runs"][number][] = [];
    for (let seed = 1; seed <= n; seed++) runs.push(await run(seed, link));
    const row = { fault, link, runs };
    process.stdout.write(`${tableOf([row])}\n`);
    expect(isKept(row)).toBe(true);
  },
);
