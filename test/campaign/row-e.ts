/** Job E: kill -9 and simulated power cut, online and offline, 20 seeds each, as a table. `-- [SEEDS]` */
import { killRun } from "../support/row-e/kill.ts";
import { powerRun } from "../support/row-e/power.ts";
import { type Fault, isKept, type LinkState, type Row, tableOf } from "../support/row-e/table.ts";

const seeds = Number(process.argv[2] ?? 20);
const rows: Row[] = [];
for (const [fault, run] of [["kill -9", killRun] as const, ["power cut", powerRun] as const]) {
  for (const link of ["offline", "online"] as const) rows.push(await rowOf(fault, link, run));
}
process.stdout.write(`${tableOf(rows)}\n`);
process.exitCode = rows.every(isKept) ? 0 : 1;

async function rowOf(fault: Fault, link: LinkState, run: typeof killRun): Promise<Row> {
  const runs = [];
  for (let seed = 1; seed <= seeds; seed++) runs.push(await run(seed, link));
  return { fault, link, runs };
}
