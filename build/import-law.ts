/**
 * The import law as one table: who may import whom. Downward only, and other folders only through
 * their face. build/check-law.ts holds the sources to it with resolved paths.
 *
 * A zone is the longest path of this table that a file lies under; with `/*` each folder there is a
 * zone of its own. A zone's own files are always allowed; anything that is not named here is not.
 */

export interface Zone {
  /** Zones that may be imported, through their face. */
  readonly may: readonly string[];
  /** Zones of which only types may be imported, or single files of theirs that declare a port. */
  readonly types?: readonly string[];
  /** What single files of the zone may import besides. */
  readonly files?: Readonly<Record<string, readonly string[]>>;
  /** The file that others import, `<name>` being the folder's; "*" where every file is for others. */
  readonly face: string;
}

const everyAgentFolder = [
  ...["core", "sdk", "protocol", "config", "log", "store", "outbox", "connection", "schedule"],
  ...["health", "commands", "host", "kit", "control", "service", "update"],
].map((name) => `agent/${name}`);

const base = ["agent/core", "agent/protocol", "agent/config", "agent/log", "agent/store"];

/** The subcommands of the commander. */
const operatorFiles = ["send", "cancel", "runs", "devices", "presence", "watch", "keys", "token"];

export const zones: Readonly<Record<string, Zone>> = {
  "agent/core": { face: "*", may: [] },
  "agent/sdk": { face: "sdk.ts", may: [] },
  "agent/protocol": { face: "*", may: ["agent/core"] },
  "agent/config": { face: "config.ts", may: ["agent/core"] },
  "agent/log": { face: "log.ts", may: ["agent/core"] },
  "agent/store": { face: "store.ts", may: ["agent/core"] },
  "agent/outbox": { face: "outbox.ts", may: ["agent/core", "agent/store"] },
  "agent/schedule": { face: "schedule.ts", may: ["agent/core", "agent/store"] },
  "agent/connection": { face: "connection.ts", may: ["agent/core", "agent/protocol"] },
  "agent/health": { face: "health.ts", may: ["agent/core", "agent/store"] },
  "agent/commands": {
    face: "commands.ts",
    may: ["agent/core", "agent/protocol", "agent/store", "agent/outbox"],
  },
  "agent/host": {
    face: "host.ts",
    may: ["core", "sdk", "store", "outbox", "schedule", "health"].map((name) => `agent/${name}`),
    types: ["agent/commands", "agent/commands/dispatcher.ts"],
  },
  "agent/kit": {
    face: "kit.ts",
    may: ["core", "sdk", "store", "outbox", "host"].map((name) => `agent/${name}`),
  },
  "agent/control": { face: "control.ts", may: ["agent/core", "agent/config"] },
  "agent/service": { face: "service.ts", may: ["agent/core", "agent/config"] },
  "agent/update": { face: "update.ts", may: ["agent/core", "agent/config"] },
  "agent/cli": {
    face: "*", // For agent/main.ts alone, which wires it to the process.
    may: [
      ...["core", "protocol", "config", "log", "control", "service", "update"].map(
        (name) => `agent/${name}`,
      ),
      "package.json",
    ],
    files: {
      "run.ts": ["agent/agent.ts"],
      "cloud.ts": ["cloud"],
      "cloud-add.ts": ["cloud"],
      "plugin.ts": ["agent/host", "agent/kit"],
      ...Object.fromEntries(operatorFiles.map((name) => [`${name}.ts`, ["cloud/operator"]])),
    },
  },
  "package.json": { face: "*", may: [] }, // The version that `holdfast version` tells.
  "agent/main.ts": { face: "*", may: ["agent/cli"] },
  "agent/agent.ts": { face: "*", may: [...everyAgentFolder, "agent/wiring", "plugins/*"] },
  // The parts of the composition root that are longer than a line: for agent.ts alone.
  "agent/wiring": { face: "*", may: everyAgentFolder },
  // A built-in plugin is written exactly as a stranger's: the sdk and npm packages, nothing else.
  "plugins/*": { face: "plugin.ts", may: ["agent/sdk"] },
  cloud: { face: "cloud.ts", may: [...base, "cloud/*"] },
  "cloud/*": { face: "<name>.ts", may: [...base, "cloud/*"] },
  // Stands apart from the rest of the cloud: it is the commander's side.
  "cloud/operator": { face: "operator.ts", may: [...base, "agent/connection"] },
};

/**
 * Third-party packages: each place where exactly one file may import it. A package that is not
 * listed may be imported by plugins, tests and build scripts only.
 */
export const edges: Readonly<Record<string, readonly string[]>> = {
  mqtt: ["agent/connection"],
  "mqtt-packet": ["agent/core", "agent/connection"],
  ws: ["cloud"],
  "classic-level": ["agent/store"],
  "node-schedule": ["agent/schedule"],
  systeminformation: ["agent/health", "plugins/system"],
  "toml-eslint-parser": ["agent/config"],
  commander: ["agent/cli"],
  valibot: ["agent/core", "agent/config", "agent/sdk", "agent/host", "plugins/system"],
};

/** Where the machine's own clock and chance may be read. */
export const systemFiles: readonly string[] = [
  "agent/core/system-clock.ts",
  "agent/core/system-random.ts",
];

/** What they are called; comments and strings do not count. */
export const systemNames: ReadonlyArray<{ readonly name: string; readonly pattern: RegExp }> = [
  { name: "Date.now", pattern: /\bDate\s*\.\s*now\b/ },
  { name: "new Date()", pattern: /\bnew\s+Date\s*(?:\(\s*\)|(?![\s(\w]))/ },
  { name: "performance.now", pattern: /\bperformance\s*\.\s*now\b/ },
  { name: "process.hrtime", pattern: /\bprocess\s*\.\s*hrtime\b/ },
  {
    name: "setTimeout",
    pattern: /(?<![.\w$#]|function )setTimeout\b|\bglobalThis\s*\.\s*setTimeout\b/,
  },
  {
    name: "setInterval",
    pattern: /(?<![.\w$#]|function )setInterval\b|\bglobalThis\s*\.\s*setInterval\b/,
  },
  { name: "Math.random", pattern: /\bMath\s*\.\s*random\b/ },
  { name: "scheduler.wait", pattern: /\bscheduler\s*\.\s*wait\b/ },
  { name: "randomUUID", pattern: /\brandomUUID\b/ },
];

/** Node's module with the same power under any name; of timers/promises the names tell. */
export const systemModules: readonly string[] = ["timers"];
