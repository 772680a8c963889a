/**
 * 500 damaged stores, or as many as are asked for: `-- [COUNT] [FIRST SEED]`. Each starts, what is
 * lost in front of the anchor is told, what a repair of a copy can save is saved.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DamageVerdict, makeTemplate, runDamageCase } from "../support/damage-case.ts";

const count = Number(process.argv[2] ?? 500);
const first = Number(process.argv[3] ?? 1);
const dir = await mkdtemp(join(tmpdir(), "holdfast-damage-"));
const outcomes: Record<string, number> = {};
const sums = { waiting: 0, delivered: 0, repeated: 0, lostRecords: 0, reported: 0 };
const failures: string[] = [];
try {
  const template = await makeTemplate(join(dir, "template"));
  for (let seed = first; seed < first + count; seed++) {
    const at = join(dir, `case-${seed}`);
    try {
      add(await runDamageCase(template, seed, at));
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
      process.stdout.write(`FAILED ${failures.at(-1)}\n`);
    }
    await rm(at, { recursive: true, force: true });
  }
} finally {
  await rm(dir, { recursive: true, force: true });
}
process.stdout.write(`${JSON.stringify({ outcomes, ...sums })}\n`);
process.stdout.write(`${count - failures.length} of ${count} damaged stores as promised\n`);
process.exitCode = failures.length > 0 ? 1 : 0;

function add(verdict: DamageVerdict): void {
  outcomes[verdict.outcome] = (outcomes[verdict.outcome] ?? 0) + 1;
  for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += verdict[key];
}
