/**
 * Would the simulation find a bug? Each patch under test/simulation/mutants plants one in a copy of
 * the source; the simulation must break a promise within 2,000 seeds, from several starting points.
 */
import { execFile, execFileSync } from "node:child_process";
import { cpSync, readdirSync, symlinkSync } from "node:fs";

import { basename, join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { makeTempDir } from "../support/temp-dir.ts";

const root = join(import.meta.dirname, "..", "..");
const folder = join(root, "test", "simulation", "mutants");
const STARTS = [1, 10_001, 20_001];
const MOST = 2_000;
/** A bug may also hang it; that is no way to be found. */
const HANG_MS = 240_000;

const mutants = readdirSync(folder).filter((name) => name.endsWith(".patch"));
const found: string[] = [];

afterAll(() => {
  process.stdout.write(`seeds until found, the median of ${STARTS.length} starting points:\n`);
  process.stdout.write(`${found.sort().join("\n")}\n`);
});

it("there are at least 15", () => expect(mutants.length).toBeGreaterThanOrEqual(15));

it.each(mutants)("%s is found", { timeout: 900_000 }, async (patch) => {
  await using copy = await makeTempDir();
  for (const part of ["agent", "package.json", "test/simulation", "test/support"]) {
    cpSync(join(root, part), join(copy.path, part), { recursive: true });
  }
  symlinkSync(join(root, "node_modules"), join(copy.path, "node_modules"));
  // Fails when the source has moved on: then the patch is to be made anew.
  execFileSync("git", ["apply", "--unsafe-paths", "--unidiff-zero", join(folder, patch)], {
    cwd: copy.path,
    env: { ...process.env, GIT_CEILING_DIRECTORIES: copy.path },
  });
  const seeds = await Promise.all(STARTS.map((start) => seedsUntilFound(copy.path, start)));
  const median = seeds.sort((a, b) => a - b)[STARTS.length >> 1] as number;
  found.push(`${String(median).padStart(6)}  ${basename(patch, ".patch")}  (${seeds.join(", ")})`);
  expect(Math.max(...seeds), `seeds until ${patch} is found`).toBeLessThanOrEqual(MOST);
});

function seedsUntilFound(copy: string, start: number): Promise<number> {
  const words = ["test/simulation/sim.ts", "--brief", "--seeds", String(start), String(MOST)];
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      words,
      { cwd: copy, timeout: HANG_MS, killSignal: "SIGKILL" },
      (error, stdout) => {
        const last = /^seeds \d+ to (\d+): (passed|FAILED)/m.exec(stdout);
        if (!last) reject(new Error(`the simulation did not end: ${stdout}`, { cause: error }));
        else if (last[2] === "passed") resolve(Number.POSITIVE_INFINITY);
        else resolve(Number(last[1]) - start + 1);
      },
    );
  });
}
