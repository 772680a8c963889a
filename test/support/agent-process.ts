/** `holdfast run` as a process of its own, that a test can kill and start again. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import type { StatusReport } from "../../agent/control/control.ts";
import { waitFor } from "./wait-for.ts";

const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));

export interface BatchLine {
  readonly topic: string;
  readonly payload: string;
  readonly lane?: string;
}

export interface BatchAnswer {
  readonly accepted: number;
  readonly results: readonly { readonly line: number; readonly id?: string }[];
}

/** An agent on a state folder; `start` and `kill` may follow each other any number of times. */
export class AgentProcess {
  readonly #dir: string;
  readonly #command: (config: string) => readonly string[];
  #child: ChildProcess | undefined;
  #log = "";

  /** `toml` is the configuration without the state folder, which is in `dir`. */
  static async prepare(
    dir: string,
    toml: string,
    command: (config: string) => readonly string[] = (config) => [main, "run", "--config", config],
  ): Promise<AgentProcess> {
    const agent = new AgentProcess(dir, command);
    const state = `\n[state]\ndir = "${join(dir, "state")}"\n[clock]\ntrust = "always"\n`;
    await writeFile(agent.config, toml + state, { mode: 0o600 });
    onTestFinished(() => agent.kill());
    return agent;
  }

  private constructor(dir: string, command: (config: string) => readonly string[]) {
    this.#dir = dir;
    this.#command = command;
  }

  get config(): string {
    return join(this.#dir, "agent.toml");
  }

  /** Everything that all processes have logged so far. */
  get log(): string {
    return this.#log;
  }

  async start(): Promise<void> {
    const before = this.#log.length;
    const child = spawn(process.execPath, [...this.#command(this.config)], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#child = child;
    child.stderr?.on("data", (chunk: Buffer) => {
      this.#log += chunk.toString();
    });
    const ready = await waitFor(
      () => (child.exitCode !== null ? "ended" : this.#log.slice(before).includes('"ready"')),
      { what: "the agent to be ready" },
    );
    if (ready === "ended") throw new Error(`the agent ended: ${this.#log.slice(before)}`);
  }

  /** SIGKILL: nothing of the process runs after this. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** SIGTERM; gives the exit status. */
  async stop(): Promise<number | null> {
    return this.#end("SIGTERM");
  }

  async status(): Promise<StatusReport> {
    return (await this.#ask("GET", "/v1/status")) as StatusReport;
  }

  /** Throws when the agent is not there or dies before its answer. */
  async batch(lines: readonly BatchLine[]): Promise<BatchAnswer> {
    const body = lines.map((line) => JSON.stringify(line)).join("\n");
    return (await this.#ask("POST", "/v1/messages:batch", body)) as BatchAnswer;
  }

  async #end(signal: "SIGKILL" | "SIGTERM"): Promise<number | null> {
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return null;
    const exited = once(child, "exit");
    child.kill(signal);
    const [code] = (await exited) as [number | null];
    return code;
  }

  async #ask(method: string, path: string, body = ""): Promise<unknown> {
    const socketPath = join(this.#dir, "state", "holdfast.sock");
    const sent = request({ socketPath, method, path, agent: false });
    sent.end(body);
    const [response] = await once(sent, "response");
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    return JSON.parse(Buffer.concat(chunks).toString());
  }
}
