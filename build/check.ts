/** `npm run check`: format, lint, import law, types, dead code. Runs all of them, then says which failed. */
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";

const root = dirname(import.meta.dirname);
const bin = join(root, "node_modules", ".bin");

const steps: ReadonlyArray<readonly [name: string, program: string, ...args: string[]]> = [
  ["format and lint", join(bin, "biome"), "check", "--error-on-warnings", "."],
  ["import law", process.execPath, join(root, "build", "check-law.ts")],
  ["types", join(bin, "tsc"), "--noEmit", "-p", "."],
  ["dead code", join(bin, "knip"), "--no-progress"],
];

let failed = 0;
for (const [name, program, ...args] of steps) {
  const startMs = performance.now();
  const run = spawnSync(program, args, { cwd: root, encoding: "utf8" });
  const ok = run.status === 0;
  if (!ok) {
    failed++;
    process.stdout.write(`${run.stdout ?? ""}${run.stderr ?? ""}${run.error?.message ?? ""}`);
  }
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  process.stdout.write(`${ok ? "passed" : "FAILED"}: ${name} (${seconds} s)\n`);
}
process.exitCode = failed > 0 ? 1 : 0;
