import { defineConfig } from "vitest/config";

// Two cores, shared with the agents and brokers that the tests start.
const maxWorkers = 2;
// A guard against hangs, not a budget: a test that comes near it is wrong.
const testTimeout = 60_000;

export default defineConfig({
  test: {
    projects: [
      tier("unit"),
      tier("contract"),
      tier("simulation"),
      tier("integration"),
      tier("system", { fileParallelism: false, testTimeout: 300_000 }),
    ],
    maxWorkers,
    coverage: { provider: "v8", include: ["agent/**", "cloud/**", "plugins/**"] },
  },
});

function tier(name: string, overrides: { fileParallelism?: boolean; testTimeout?: number } = {}) {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      environment: "node",
      pool: "forks",
      testTimeout,
      hookTimeout: testTimeout,
      ...overrides,
    },
  };
}
