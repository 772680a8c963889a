/**
 * A process of its own for slots.test.ts: takes slots as it is told, a line each on stdin, and
 * answers with a line each. `take`, `try N`, `release`; the end of stdin ends it.
 */
import { createInterface } from "node:readline";
import { SystemClock } from "../../../agent/core/system-clock.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { type Slot, Slots, systemProcesses } from "../../../cloud/operator/operator.ts";

const slots = new Slots(
  { dir: process.argv[2] ?? "", clientId: "GID_demo@@@console" },
  { clock: new SystemClock(), random: new SystemRandom(), processes: systemProcesses },
);
let held: Slot | undefined;
process.stdout.write("ready\n");
for await (const line of createInterface({ input: process.stdin })) {
  const [verb, argument] = line.split(" ");
  if (verb === "take") held = await slots.take(AbortSignal.timeout(20_000));
  if (verb === "try") held = await slots.tryTake(Number(argument));
  if (verb === "release") {
    await held?.release();
    held = undefined;
  }
  process.stdout.write(`${held?.number ?? "none"}\n`);
}
