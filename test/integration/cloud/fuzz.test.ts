import { expect, it } from "vitest";
import { startCloud } from "../../support/cloud.ts";
import { fuzz, fuzzLimits, fuzzTimings } from "../../support/cloud-fuzz.ts";
import { heldMemory } from "../../support/held-memory.ts";

/** The full number is `npm run campaign -- cloud-fuzz`. */
const PACKETS = 5_000;

it("5,000 damaged packets: no crash, no leak, and who behaves is served", async () => {
  const seed = 1;
  const { cloud, mqttPort } = await startCloud({ timings: fuzzTimings, limits: fuzzLimits });
  const target = { port: mqttPort, stats: () => cloud.stats, usedBytes: heldMemory };
  const report = await fuzz(target, { seed, packets: PACKETS });
  const { packets, connections, answers, served, grownBytes } = report;
  process.stdout.write(
    `seed ${seed}: ${packets} damaged packets, ${connections} connections, ${answers} answers, ` +
      `${served} messages served, ${grownBytes} bytes more\n`,
  );
  expect(report.faults).toEqual([]);
  expect(packets).toBeGreaterThanOrEqual(PACKETS);
  expect(answers).toBeGreaterThan(connections / 2);
  // What is kept for the MQ side stays in the store, which is in memory here: about 1.5 MB.
  expect(grownBytes).toBeLessThan(4_000_000);
});
