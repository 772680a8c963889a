/**
 * Every I/O operation of a scripted run failing once: EIO on a write, EIO on a sync, ENOSPC. Nothing
 * accepted is lost, nothing needs a restart. `-- [STEP]` takes every STEP-th operation only.
 */
import { FaultRig, faultKinds, whyNoFaults } from "../support/io-faults/rig.ts";

const missing = whyNoFaults();
if (missing !== undefined) {
  process.stderr.write(`${missing}\n`);
  process.exit(1);
}
const step = Number(process.argv[2] ?? 1);
const rig = await FaultRig.make();
let failures = 0;
let runs = 0;
try {
  for (const kind of faultKinds) {
    const count = await rig.count(kind);
    const before = failures;
    for (let n = 1; n <= count; n += step, runs++) {
      const wrong = await rig.fail(kind, n);
      if (wrong === undefined) continue;
      failures++;
      process.stdout.write(`FAILED ${kind} ${n}: ${wrong}\n`);
    }
    process.stdout.write(`${kind}: ${count} operations, ${failures - before} failures\n`);
  }
} finally {
  await rig.remove();
}
process.stdout.write(`${runs - failures} of ${runs} faults as promised\n`);
process.exitCode = failures > 0 ? 1 : 0;
