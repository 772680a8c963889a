/**
 * Where the demo plays: a temporary folder with the state of all, the configuration files as an
 * operator would paste them, and a `holdfast` for the next terminal.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { DemoFailure } from "./life.ts";

const root = dirname(dirname(import.meta.dirname));
const main = join(root, "agent", "main.ts");

/** What `holdfast cloud --json` prints at a first start. */
export interface CloudReady {
  readonly mqtt: string;
  readonly agent: string;
  readonly commander: string;
}

export interface Account {
  readonly accessKey: string;
  readonly secret: string;
  readonly instanceId: string;
}

/** The slowest wait between two attempts to connect, so that nobody watches a back-off for minutes. */
const RECONNECT_MAX_MS = 2_000;

export class Stage {
  readonly dir = mkdtempSync(join(tmpdir(), "holdfast-demo-"));
  readonly cloudDir = join(this.dir, "service");
  readonly controlDir = join(this.dir, "run");
  readonly agentFile = join(this.dir, "agent.toml");
  /** A shell script: the command line with all that it needs to find this agent and this service. */
  readonly program = join(this.dir, "holdfast");
  readonly #configDir = join(this.dir, "config");
  readonly #stateDir = join(this.dir, "state");

  constructor() {
    for (const dir of [this.controlDir, join(this.#configDir, "holdfast"), this.#stateDir]) {
      mkdirSync(dir, { recursive: true, mode: 0o700 });
    }
    const variables = Object.entries(this.#variables).map(
      ([name, value]) => `${name}=${quoted(value)}`,
    );
    const words = `exec ${quoted(process.execPath)} ${quoted(main)} "$@"`;
    writeFileSync(this.program, `#!/bin/sh\nexport ${variables.join(" ")}\n${words}\n`, {
      mode: 0o700,
    });
  }

  /** The words that run `holdfast ARGS` from the sources. */
  holdfast(...args: readonly string[]): readonly string[] {
    return [process.execPath, main, ...args];
  }

  /** For the programs of the demo: nothing of the user's own configuration reaches them. */
  get env(): NodeJS.ProcessEnv {
    const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("HOLDFAST_"));
    return { ...Object.fromEntries(kept), ...this.#variables };
  }

  /** The sections that the service printed, the agent's with the link as its endpoint. */
  writeConfigs(ready: CloudReady, linkPort: number): void {
    const agent = `${throughLink(ready.agent, linkPort)}
[service.reconnect]
max_ms = ${RECONNECT_MAX_MS}
refused_min_ms = ${RECONNECT_MAX_MS}
takeover_min_ms = ${RECONNECT_MAX_MS}

[state]
dir = ${JSON.stringify(join(this.#stateDir, "agent"))}

[control]
dir = ${JSON.stringify(this.controlDir)}

[plugins]
dir = ${JSON.stringify(join(this.dir, "plugins"))}
`;
    mkdirSync(join(this.#stateDir, "agent"), { mode: 0o700 });
    writeFileSync(this.agentFile, agent, { mode: 0o600 });
    const commanderFile = join(this.#configDir, "holdfast", "commander.toml");
    writeFileSync(commanderFile, ready.commander, { mode: 0o600 });
  }

  remove(): void {
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 3 });
  }

  get #variables(): Record<string, string> {
    return {
      HOLDFAST_CONTROL__DIR: this.controlDir,
      XDG_CONFIG_HOME: this.#configDir,
      XDG_STATE_HOME: this.#stateDir,
    };
  }
}

export function accountOf(section: string): Account {
  return {
    accessKey: textOf(section, "access_key"),
    secret: textOf(section, "secret"),
    instanceId: textOf(section, "instance_id"),
  };
}

/** The string that a section gives to a key. */
export function textOf(section: string, key: string): string {
  const value = new RegExp(`^${key} = "([^"]*)"$`, "m").exec(section)?.[1];
  if (value === undefined) throw new DemoFailure(`the service printed no ${key}`);
  return value;
}

export function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(":") + 1));
}

function throughLink(section: string, port: number): string {
  const own = /^endpoints = .*$/m;
  if (!own.test(section)) throw new DemoFailure("the service printed no endpoints");
  return section.replace(own, `endpoints = ["mqtt://127.0.0.1:${port}"]`);
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
