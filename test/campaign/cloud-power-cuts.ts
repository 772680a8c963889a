/**
 * 500 real power cuts of the local service over records of work: what was lost, or came back.
 *
 *   npm run campaign -- cloud-power-cuts [CUTS] [FIRST SEED]
 */
import { cloudSubject } from "../support/power-rig/cloud-subject.ts";
import { PowerRig, whyNoPowerCuts } from "../support/power-rig/rig.ts";

const CUTS_PER_RECORD = 100;
const cuts = Number(process.argv[2] ?? 500);
const firstSeed = Number(process.argv[3] ?? 1);
const missing = whyNoPowerCuts();
if (missing === undefined) await run();
else process.stdout.write(`left out: real power cuts: ${missing}\n`);

async function run(): Promise<void> {
  using rig = new PowerRig(cloudSubject);
  const sum = {
    ...{ cuts: 0, owed: 0, lost: 0, revived: 0, repeated: 0, misdirected: 0, unsubscribed: 0 },
    help: 0,
  };
  for (let seed = firstSeed; sum.cuts < cuts; seed++) {
    const records = await rig.record(seed);
    const count = Math.min(CUTS_PER_RECORD, cuts - sum.cuts);
    for await (const { at, trouble, ...verdict } of rig.cuts(records, count, seed)) {
      sum.cuts++;
      if (trouble !== undefined) sum.help++;
      for (const key of Object.keys(verdict) as (keyof typeof verdict)[]) sum[key] += verdict[key];
      const { lost, revived, misdirected, unsubscribed } = verdict;
      if (trouble !== undefined || lost + revived + misdirected + unsubscribed > 0) {
        process.stdout.write(`seed ${seed}: ${JSON.stringify({ at, trouble, ...verdict })}\n`);
      }
    }
    process.stdout.write(`seed ${seed}: ${JSON.stringify(sum)}\n`);
  }
  const { lost, revived, misdirected, unsubscribed, help } = sum;
  process.exitCode = lost + revived + misdirected + unsubscribed + help > 0 ? 1 : 0;
}
