/** I12, I13: a fixed sample of the campaign `damage`. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makeTemplate, runDamageCase } from "../support/damage-case.ts";
import { tempDir } from "../support/temp-dir.ts";

const CASES = 60;

test(`${CASES} damaged stores: each starts, saves what can be saved, and tells the rest`, async () => {
  const dir = await tempDir();
  const template = await makeTemplate(join(dir, "template"));
  const outcomes: Record<string, number> = {};
  for (let seed = 1; seed <= CASES; seed++) {
    const at = join(dir, `case-${seed}`);
    const { outcome } = await runDamageCase(template, seed, at);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    await rm(at, { recursive: true, force: true });
  }
  process.stdout.write(`${CASES} damaged stores: ${JSON.stringify(outcomes)}\n`);
  // The sample has damage of every kind, or it would prove nothing.
  expect(outcomes["repaired"]).toBeGreaterThan(5);
  expect(outcomes["sound"]).toBeGreaterThan(5);
});
