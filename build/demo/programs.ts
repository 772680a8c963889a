/** The child processes of the demo: what they said last, and that none is left behind. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import { DemoFailure, type Life } from "./life.ts";

const KEPT_LINES = 15;
const MAX_RESULT_LINES = 1_000;
/** How long a program may take to end after SIGTERM. */
const STOP_MS = 8_000;

export interface StartOptions {
  /** As the narration calls it. */
  readonly name: string;
  readonly words: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

export class Program {
  readonly name: string;
  readonly pid: number;
  readonly exited: Promise<unknown>;
  /** Its results; what follows a bound is left out. */
  readonly stdout: string[] = [];
  readonly #child: ChildProcess;
  readonly #lastLines: string[] = [];
  #isWanted = true;

  constructor(name: string, child: ChildProcess) {
    this.name = name;
    this.pid = child.pid ?? 0;
    this.#child = child;
    this.exited = new Promise((resolve) => {
      child.once("close", resolve);
      child.once("error", resolve);
    });
    eachLine(child.stdout, (line) => {
      if (this.stdout.length < MAX_RESULT_LINES) this.stdout.push(line);
    });
    eachLine(child.stderr, (line) => {
      this.#lastLines.push(line);
      if (this.#lastLines.length > KEPT_LINES) this.#lastLines.shift();
    });
  }

  /** Of its log. Not of its results, in which the service prints a secret. */
  get lastLines(): readonly string[] {
    return this.#lastLines;
  }

  /** False from the moment at which the demo ends it. */
  get isWanted(): boolean {
    return this.#isWanted;
  }

  get isRunning(): boolean {
    return this.pid !== 0 && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** How it ended, in words. */
  get ending(): string {
    const { exitCode, signalCode } = this.#child;
    return signalCode ? `was ended by ${signalCode}` : `ended with exit status ${exitCode}`;
  }

  get exitCode(): number | null {
    return this.#child.exitCode;
  }

  kill(): void {
    this.#isWanted = false;
    if (this.isRunning) this.#child.kill("SIGKILL");
  }

  /** SIGTERM, and SIGKILL for one that does not end by it. */
  async stop(): Promise<void> {
    this.#isWanted = false;
    if (!this.isRunning) return;
    this.#child.kill("SIGTERM");
    const over = new AbortController();
    const late = pause(STOP_MS, undefined, { signal: over.signal }).then(
      () => this.kill(),
      () => undefined,
    );
    await this.exited;
    over.abort();
    await late;
  }
}

export class Programs {
  readonly #life: Life;
  readonly #running = new Set<Program>();

  constructor(life: Life) {
    this.#life = life;
  }

  /** One that is to run on: its end, unless the demo ended it, ends the demo. */
  async start({ name, words, env }: StartOptions): Promise<Program> {
    this.#life.signal.throwIfAborted();
    const [file = "", ...args] = words;
    // A process group of its own: Ctrl-C on a terminal is the demo's to handle, in its order.
    const child = spawn(file, args, { env, stdio: ["ignore", "pipe", "pipe"], detached: true });
    const program = new Program(name, child);
    if (child.pid === undefined) {
      const [error] = await once(child, "error");
      throw new DemoFailure(`${name} did not start`, program, error);
    }
    this.#running.add(program);
    void program.exited.then(() => {
      this.#running.delete(program);
      if (program.isWanted) {
        this.#life.end(
          new DemoFailure(`${name} (process ${child.pid}) ${program.ending}`, program),
        );
      }
    });
    return program;
  }

  /** One that does its work and ends: what it wrote to stdout. Throws unless its status is 0. */
  async run(options: StartOptions): Promise<string> {
    this.#life.signal.throwIfAborted();
    const [file = "", ...args] = options.words;
    const { env } = options;
    const child = spawn(file, args, { env, stdio: ["ignore", "pipe", "pipe"], detached: true });
    const program = new Program(options.name, child);
    this.#running.add(program);
    const stop = () => program.kill();
    this.#life.signal.addEventListener("abort", stop, { once: true });
    await program.exited;
    this.#life.signal.removeEventListener("abort", stop);
    this.#running.delete(program);
    this.#life.signal.throwIfAborted();
    if (program.exitCode !== 0) {
      throw new DemoFailure(`${options.name} ${program.ending}`, program);
    }
    return program.stdout.join("\n");
  }

  /** In the reverse order of their start. */
  async stopAll(): Promise<void> {
    for (const program of [...this.#running].reverse()) await program.stop();
  }

  /** For the last moment of the process, where nothing can be awaited. */
  killAll(): void {
    for (const program of this.#running) program.kill();
  }
}

function eachLine(stream: Readable | null, take: (line: string) => void): void {
  if (stream) createInterface({ input: stream }).on("line", take);
}
