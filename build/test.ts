/**
 * Runs one tier of tests and ends with what was left out, what was skipped and why, and one closing
 * line: `N passed, N failed, N skipped`.
 *
 *   node build/test.ts quick|system [vitest filters and options]
 */
import { parseCLI, startVitest, type TestCase, type Vitest } from "vitest/node";
import { prepareSystemTier } from "./system-packages.ts";

const tiers = {
  quick: {
    projects: ["unit", "contract", "simulation", "integration"],
    leftOut: [
      "left out: test/system (real brokers, faults, systemd, packages): npm run test:system",
      "left out: test/campaign (the full numbers): npm run campaign -- list",
    ],
  },
  system: { projects: ["system"], leftOut: [] },
} as const;

const [tierName = "", ...rest] = process.argv.slice(2);
if (tierName !== "quick" && tierName !== "system") {
  process.stderr.write("usage: node build/test.ts quick|system [FILTER...] [vitest options]\n");
  process.exit(2);
}
const tier = tiers[tierName];
const { filter, options } = parseCLI(["vitest", "run", ...rest]);
const notes: string[] = tierName === "system" ? prepareSystemTier() : [...tier.leftOut];

const vitest = await startVitest("test", filter, {
  ...options,
  watch: false,
  project: [...tier.projects],
  passWithNoTests: filter.length === 0,
});
await vitest.close();
process.exitCode = conclude(vitest, notes);

/** Prints the closing lines; gives the exit code. */
function conclude(run: Vitest, notes: readonly string[]): number {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const lines = [...notes];
  for (const module of run.state.getTestModules()) {
    for (const test of module.children.allTests()) {
      const { state } = test.result();
      counts[state === "pending" ? "skipped" : state]++;
      if (state === "skipped") lines.push(`skipped: ${test.fullName}: ${skipReason(test)}`);
    }
    // A file that does not load, or a hook that fails, has no test of its own to show it.
    if (module.state() === "failed" && ![...module.children.allTests("failed")].length) {
      counts.failed++;
      lines.push(`failed: ${module.relativeModuleId}`);
    }
  }
  const unhandled = run.state.getUnhandledErrors().length;
  if (unhandled > 0) lines.push(`failed: ${unhandled} errors outside of any test`);
  counts.failed += unhandled;
  lines.push(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  process.stdout.write(`\n${lines.join("\n")}\n`);
  return counts.failed > 0 ? 1 : Number(process.exitCode ?? 0);
}

function skipReason(test: TestCase): string {
  const result = test.result();
  return (result.state === "skipped" ? result.note : undefined) ?? "no reason given";
}
