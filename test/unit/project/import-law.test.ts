import { execFile } from "node:child_process";
import { cp, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { type Breach, checkLaw, checkLock } from "../../../build/check-law.ts";
import { edges, zones } from "../../../build/import-law.ts";
import { lintLaw } from "../../../build/lint-law.ts";
import { makeTempDir, tempDir } from "../../support/temp-dir.ts";

const root = join(import.meta.dirname, "..", "..", "..");

type Snippets = Readonly<Record<string, string>>;

async function write(dir: string, files: Snippets): Promise<void> {
  for (const [file, text] of Object.entries(files)) {
    await mkdir(join(dir, dirname(file)), { recursive: true });
    await writeFile(join(dir, file), text);
  }
}

async function judge(files: Snippets): Promise<Breach[]> {
  const dir = await tempDir();
  await write(dir, files);
  return checkLaw(dir);
}

const wrong: ReadonlyArray<readonly [why: string, file: string, text: string, message: string]> = [
  ["upwards", "agent/core/a.ts", 'import { s } from "../store/store.ts";', "agent/core may not"],
  [
    "sideways",
    "agent/outbox/a.ts",
    'import "../connection/connection.ts";',
    "agent/outbox may not",
  ],
  ["a re-export", "agent/log/a.ts", 'export * from "../config/config.ts";', "agent/log may not"],
  [
    "a type",
    "agent/store/a.ts",
    'import type { A } from "../outbox/outbox.ts";',
    "agent/store may",
  ],
  ["by alias", "agent/sdk/a.ts", 'import { x } from "#core/errors.ts";', "agent/sdk may not"],
  ["at run time", "agent/health/a.ts", 'await import("../host/host.ts");', "agent/health may not"],
  [
    "deeper",
    "agent/connection/auth/a.ts",
    'import "../../store/store.ts";',
    "agent/connection may",
  ],
  [
    "over lines",
    "agent/log/a.ts",
    'import {\n  a,\n  b,\n} from "../store/store.ts";',
    "agent/log",
  ],
  [
    "a roundabout path",
    "agent/log/a.ts",
    'import "../core/../store/store.ts";',
    "agent/log may not",
  ],
  ["past a face", "agent/outbox/a.ts", 'import "../store/level.ts";', "agent/store/store.ts"],
  [
    "past a cloud face",
    "cloud/http/a.ts",
    'import "../access/rules.ts";',
    "cloud/access/access.ts",
  ],
  [
    "a value of commands",
    "agent/host/a.ts",
    'import { J } from "../commands/commands.ts";',
    "types",
  ],
  ["the agent", "agent/cli/status.ts", 'import "../agent.ts";', "may not import agent/agent.ts"],
  ["the cloud", "agent/cli/send.ts", 'import "../../cloud/cloud.ts";', "may not import cloud"],
  ["the operator", "agent/cli/run.ts", 'import "../../cloud/operator/operator.ts";', "may not"],
  ["the host", "agent/cli/run.ts", 'import "../host/host.ts";', "may not import agent/host"],
  ["more than cli", "agent/main.ts", 'import "./agent.ts";', "may not import agent/agent.ts"],
  [
    "the agent's inside",
    "plugins/a/plugin.ts",
    'import "../../agent/core/log.ts";',
    "may not import",
  ],
  ["another plugin", "plugins/a/plugin.ts", 'import "../b/plugin.ts";', "may not import plugins/b"],
  ["the session", "cloud/broker/a.ts", 'import "../../agent/connection/connection.ts";', "may not"],
  [
    "its neighbours",
    "cloud/operator/a.ts",
    'import "../access/access.ts";',
    "may not import cloud/a",
  ],
  ["the tests", "agent/store/a.ts", 'import "../../test/support/wait-for.ts";', "not for import"],
  [
    "a folder unknown to the law",
    "agent/misc/a.ts",
    'import "../core/log.ts";',
    "no folder of the law",
  ],
  ["mqtt elsewhere", "agent/outbox/a.ts", 'import mqtt from "mqtt";', "mqtt may be imported in"],
  ["level elsewhere", "agent/commands/a.ts", 'import "classic-level";', "classic-level may be"],
  [
    "a new package",
    "agent/log/a.ts",
    'import pino from "@scope/pino/x";',
    "@scope/pino has no place",
  ],
  ["Date.now", "agent/outbox/a.ts", "const t = Date.now();", "Date.now belongs"],
  ["new Date()", "agent/log/a.ts", "const t = new Date();", "new Date() belongs"],
  ["performance.now", "agent/log/a.ts", "performance.now();", "performance.now belongs"],
  ["setTimeout", "agent/core/a.ts", "setTimeout(() => 1, 5);", "setTimeout belongs"],
  ["setInterval", "plugins/a/plugin.ts", "globalThis.setInterval(f, 5);", "setInterval belongs"],
  ["Math.random", "cloud/http/a.ts", "const r = Math.random();", "Math.random belongs"],
  [
    "in a template",
    "cloud/http/a.ts",
    "const r = `x$" + "{Math.random()}`;",
    "Math.random belongs",
  ],
  [
    "randomUUID",
    "agent/sdk/a.ts",
    'import { randomUUID } from "node:crypto";',
    "randomUUID belongs",
  ],
  [
    "a timer promise",
    "agent/host/a.ts",
    'import { setTimeout as p } from "node:timers/promises";',
    "setTimeout belongs",
  ],
  ["all timers", "agent/host/a.ts", 'import * as timers from "node:timers";', "Clock"],
];

const right: Snippets = {
  "agent/core/system-clock.ts": "const t = Date.now(); setTimeout(() => t, 1);",
  "agent/outbox/outbox.ts":
    'import { E } from "../core/errors.ts";\nimport { S } from "../store/store.ts";\nimport "./lanes.ts";',
  "agent/host/inline.ts": 'import type { Command } from "../commands/commands.ts";',
  "agent/host/host.ts": 'import type { Dispatcher } from "../commands/dispatcher.ts";',
  "agent/connection/auth/token.ts": 'import "../../protocol/token.ts";\nimport "../link.ts";',
  "agent/connection/link.ts": 'import mqtt from "mqtt";',
  "agent/cli/run.ts": 'const { startAgent } = await import("../agent.ts");',
  "agent/cli/send.ts": 'import "../../cloud/operator/operator.ts";',
  "agent/agent.ts": 'import "./host/host.ts";\nimport "../plugins/system/plugin.ts";',
  "agent/log/log.ts":
    '// import "../store/store.ts"; Date.now()\n/* setTimeout */ const text = "Math.random mqtt://x";',
  "agent/log/time.ts": "socket.setTimeout(5); new Date(5); const at = Date.parse(text);",
  "plugins/system/plugin.ts":
    'import "#sdk";\nimport si from "systeminformation";\nimport "left-pad";',
  "cloud/http/http.ts": 'import "../access/access.ts";\nimport "../../agent/protocol/topics.ts";',
};

describe("the import law", () => {
  test.each(wrong)("refuses %s: %s", async (_why, file, text, message) => {
    const breaches = await judge({ [file]: `\n${text}\n` });
    expect(breaches.map((breach) => breach.message).join("\n")).toContain(message);
    expect(breaches[0]).toMatchObject({ file, line: 2 });
  });

  test("lets pass what the design allows", async () => {
    expect(await judge(right)).toEqual([]);
  });

  test.each(Object.entries(edges))("gives %s to one file of a place", async (name, places) => {
    const text = `import "${name}";`;
    const [first = ""] = places;
    expect(await judge({ [`${first}/a.ts`]: text })).toEqual([]);
    const breaches = await judge({ [`${first}/a.ts`]: text, [`${first}/b.ts`]: text });
    expect(breaches).toMatchObject([{ file: `${first}/b.ts` }]);
  });

  test("knows every folder that it names, and allows no circle", () => {
    const visit = (name: string, path: readonly string[]): void => {
      expect(path, `a circle: ${[...path, name].join(" -> ")}`).not.toContain(name);
      const zone = zones[name];
      expect(zone, name).toBeDefined();
      for (const next of zone?.may ?? []) {
        // The cloud's own folders may know one another; the linter watches their cycles.
        if (next !== name) visit(next, [...path, name]);
      }
    };
    for (const name of Object.keys(zones)) visit(name, []);
  });

  test("is kept by the project", async () => {
    expect(await checkLaw(root)).toEqual([]);
  });
});

describe("the lock file", () => {
  test("names no registry host and every optional package", async () => {
    expect(checkLock(root)).toEqual([]);
    const dir = await tempDir();
    const packages = { "node_modules/a": { resolved: "x", optionalDependencies: { b: "1.0.0" } } };
    await writeFile(join(dir, "package-lock.json"), JSON.stringify({ packages }));
    expect(checkLock(dir).map(({ message }) => message)).toEqual([
      expect.stringContaining("b (optional for node_modules/a)"),
      expect.stringContaining("registry host"),
    ]);
  });
});

describe("the linter", () => {
  const rules: ReadonlyArray<readonly [rule: string, file: string, text: string]> = [
    ["noImportCycles", "agent/log/a.ts", 'import { b } from "./b.ts";\nexport const a = () => b;'],
    ["noFloatingPromises", "agent/log/c.ts", "const f = async () => 1;\nf();"],
    ["noMisusedPromises", "agent/log/d.ts", "const f = async () => true;\nif (f()) f;"],
    ["noExplicitAny", "agent/log/e.ts", "export const a: any = 1;"],
    ["noConsole", "agent/log/f.ts", 'console.log("x");'],
    ["noNonNullAssertion", "agent/log/g.ts", "export const g = (a?: string) => a!.length;"],
    ["noEnum", "agent/log/h.ts", "export enum H { A }"],
    ["noUndeclaredVariables", "build/i.mjs", "undeclared();"],
  ];
  /** What only build/check-law.ts can see, because it follows the path or counts the files. */
  const beyondBiome = [
    ...["a roundabout path", "past a cloud face", "a value of commands", "all timers"],
    ...["a folder unknown to the law", "a new package"],
  ];
  // Rows of one folder get a file each; a row that is about a certain file keeps its name.
  const breaking = wrong
    .filter(([why, , , message]) => !beyondBiome.includes(why) && !message.endsWith(" belongs"))
    .map(([why, file, text], row) => ({
      why,
      text,
      file: file.replace(/\/a\.ts$/, `/w${row}.ts`),
    }));
  let diagnostics: { category: string; severity: string; location: unknown }[] = [];

  const severities = (rule: string, file: string): string[] =>
    diagnostics
      .filter((one) => one.category.endsWith(`/${rule}`))
      .filter((one) => JSON.stringify(one.location).includes(`"${file}"`))
      .map((one) => one.severity);

  beforeAll(async () => {
    await using dir = await makeTempDir();
    for (const file of ["biome.json", "build/import-law.biome.json"]) {
      await cp(join(root, file), join(dir.path, file));
    }
    await writeFile(join(dir.path, ".gitignore"), "node_modules/\n");
    await symlink(join(root, "node_modules"), join(dir.path, "node_modules"));
    await write(dir.path, Object.fromEntries(rules.map(([, file, text]) => [file, text])));
    await write(dir.path, {
      "agent/log/b.ts": 'import { a } from "./a.ts";\nexport const b = () => a;',
    });
    await write(dir.path, right);
    for (const { file, text } of breaking) {
      await mkdir(join(dir.path, dirname(file)), { recursive: true });
      await writeFile(join(dir.path, file), `${text}\n`, { flag: "a" });
    }
    const args = ["lint", "--reporter=json", "--max-diagnostics=none", "."];
    const report = await new Promise<string>((resolve) => {
      const options = { cwd: dir.path, maxBuffer: 1 << 24 };
      execFile(join(root, "node_modules/.bin/biome"), args, options, (_error, out) => resolve(out));
    });
    ({ diagnostics } = JSON.parse(report));
  });

  test.each(rules)("refuses what %s names, as an error", (rule, file) => {
    expect(severities(rule, file)).toContain("error");
  });

  test.each(breaking)("marks a breach of the import law: $why", ({ file }) => {
    const rows = breaking.filter((row) => row.file === file).length;
    const added = file in right ? 0 : rows;
    expect(severities("noRestrictedImports", file).length).toBeGreaterThanOrEqual(added || 1);
  });

  test("marks nothing that the law allows", () => {
    const broken = breaking.map(({ file }) => file);
    for (const file of Object.keys(right).filter((name) => !broken.includes(name))) {
      expect(severities("noRestrictedImports", file), file).toEqual([]);
    }
  });

  test("has the law of today: node build/lint-law.ts writes it", async () => {
    expect(await readFile(join(root, "build/import-law.biome.json"), "utf8")).toBe(lintLaw());
  });
});
