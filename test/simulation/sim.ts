/**
 * `npm run sim -- --seed N [--verbose]` replays one schedule; `-- --seeds FROM COUNT` runs many and
 * stops at the first that breaks a promise; `--brief` leaves the explanation out. Without a seed it
 * runs 1,000 fresh ones. Exit 1: a promise was broken.
 */
import { parseArgs } from "node:util";
import { planOf } from "./plan.ts";
import { explain, runPlan, runSeeds } from "./schedules.ts";

const { values, positionals } = parseArgs({
  options: {
    seed: { type: "string" },
    seeds: { type: "string" },
    verbose: { type: "boolean", default: false },
    brief: { type: "boolean", default: false },
  },
  allowPositionals: true,
});
const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

if (values.seed !== undefined) await replay(Number(values.seed));
else if (values.seeds !== undefined) await many(Number(values.seeds), Number(positionals[0] ?? 1));
else await many(Math.floor(Math.random() * 2 ** 31), 1_000);

async function replay(seed: number): Promise<void> {
  const verdict = await runPlan(planOf(seed), values.verbose ? say : undefined);
  if (verdict.ok) {
    say(`seed ${seed}: ${JSON.stringify(verdict.outcome)}`);
    return;
  }
  process.exitCode = 1;
  say(`seed ${seed}: ${verdict.error.stack ?? verdict.error.message}`);
  if (!values.brief) say(await explain(seed));
}

async function many(from: number, count: number): Promise<void> {
  const { failed, ran, sums } = await runSeeds(from, count);
  say(`seeds ${from} to ${from + ran - 1}: ${failed === undefined ? "passed" : "FAILED"}`);
  if (failed === undefined) {
    say(JSON.stringify(sums));
    return;
  }
  process.exitCode = 1;
  if (!values.brief) say(await explain(failed));
}
