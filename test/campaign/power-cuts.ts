/**
 * 2,000 real power cuts over ten records of work: what was lost, repeated, or needed a person.
 *
 *   npm run campaign -- power-cuts [CUTS] [FIRST SEED]
 */
import { outboxSubject } from "../support/power-rig/outbox-subject.ts";
import { PowerRig, whyNoPowerCuts } from "../support/power-rig/rig.ts";

const CUTS_PER_RECORD = 200;
const cuts = Number(process.argv[2] ?? 2_000);
const firstSeed = Number(process.argv[3] ?? 1);
const missing = whyNoPowerCuts();
if (missing === undefined) await run();
else process.stdout.write(`left out: real power cuts: ${missing}\n`);

async function run(): Promise<void> {
  using rig = new PowerRig(outboxSubject);
  const sum = {
    cuts: 0,
    accepted: 0,
    lost: 0,
    outOfOrder: 0,
    renamed: 0,
    overDuplicates: 0,
    help: 0,
  };
  let most = 0;
  for (let seed = firstSeed; sum.cuts < cuts; seed++) {
    const records = await rig.record(seed);
    const count = Math.min(CUTS_PER_RECORD, cuts - sum.cuts);
    for await (const cut of rig.cuts(records, count, seed)) {
      sum.cuts++;
      sum.accepted += cut.accepted;
      sum.lost += cut.lost;
      sum.outOfOrder += cut.outOfOrder;
      sum.renamed += cut.renamed;
      sum.help += cut.trouble === undefined ? 0 : 1;
      sum.overDuplicates += cut.duplicates > cut.allowed ? 1 : 0;
      most = Math.max(most, cut.duplicates);
      const wrong = cut.lost + cut.outOfOrder + cut.renamed > 0 || cut.duplicates > cut.allowed;
      if (wrong || cut.trouble) process.stdout.write(`seed ${seed}: ${JSON.stringify(cut)}\n`);
    }
    process.stdout.write(`seed ${seed}: ${JSON.stringify({ ...sum, mostDuplicates: most })}\n`);
  }
  const { lost, outOfOrder, renamed, overDuplicates, help } = sum;
  process.exitCode = lost + outOfOrder + renamed + overDuplicates + help > 0 ? 1 : 0;
}
