/** All of job E: both faults, both states of the link, so many seeds each. */
import { killRun } from "./kill.ts";
import { powerRun } from "./power.ts";
import type { Fault, LinkState, Row } from "./table.ts";

type Run = typeof killRun;

export async function rowsOfE(seeds: number): Promise<Row[]> {
  const rows: Row[] = [];
  for (const link of ["offline", "online"] as const) {
    rows.push(await rowOf("kill -9", link, killRun, seeds));
    rows.push(await rowOf("power cut", link, powerRun, seeds));
  }
  return rows;
}

export async function rowOf(fault: Fault, link: LinkState, run: Run, seeds: number): Promise<Row> {
  const runs = [];
  for (let seed = 1; seed <= seeds; seed++) runs.push(await run(seed, link));
  return { fault, link, runs };
}
