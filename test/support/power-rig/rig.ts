/**
 * Real power cuts: a program in a process of its own works on ext4, on a loop device, on a file whose
 * FUSE server records writes, flushes and what the program said in one order. Any moment of that
 * record can be turned into the disk that a cut would have left, with torn writes; it is mounted, a
 * new process starts on it, and what comes out is compared with what was said before the cut.
 *
 * Not covered: a disk that lies about flushes, and sectors torn inside their 4,096 bytes.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  accessSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { SeededRandom } from "../seeded-random.ts";
import { waitFor } from "../wait-for.ts";
import { type Recorded, ReplayedDisk, readRecording } from "./recording.ts";

const DISK_BYTES = 48 * 1024 * 1024;
const SCRATCH = "/dev/shm";
const source = fileURLToPath(new URL("./recording-disk.c", import.meta.url));

/** What is put on the disk whose power will be cut, and how it is judged. */
export interface Subject<V extends object> {
  /**
   * Its program. `work STATE RUN MARKS SEED FROM` works on the folder STATE and writes what it did
   * into MARKS as it happens, a line each, `ready` first; `check STATE RUN SAID` starts over what a
   * cut left, writes into SAID what came out, and at the end `state {...}`.
   */
  readonly program: string;
  /** `before`: the lines in front of the cut; `after`: those of the check. */
  judge(before: readonly string[], after: readonly string[]): V;
  /** Why it needed help, by what it said of its state; undefined: it did not. */
  trouble(state: string): string | undefined;
}

export type Cut<V extends object> = V & {
  /** Index in the record. */
  readonly at: number;
  /** Why the new process needed help; undefined: it did not. */
  readonly trouble: string | undefined;
};

/** Why real power cuts cannot be tried here; undefined: they can. */
export function whyNoPowerCuts(): string | undefined {
  if (process.platform !== "linux") return "not Linux";
  if (process.getuid?.() !== 0) return "not root";
  for (const path of ["/dev/fuse", "/dev/loop-control", SCRATCH]) {
    if (!existsSync(path)) return `there is no ${path}`;
  }
  for (const [tool, words] of [
    ["gcc", ["--version"]],
    ["pkg-config", ["--exists", "fuse3"]],
    ["losetup", ["--version"]],
    ["mkfs.ext4", ["-V"]],
  ] as const) {
    try {
      execFileSync(tool, words, { stdio: "ignore" });
    } catch {
      return `${tool} ${words.join(" ")} does not work`;
    }
  }
  return undefined;
}

export class PowerRig<V extends object> implements Disposable {
  readonly #subject: Subject<V>;
  readonly #dir = mkdtempSync(join(SCRATCH, "holdfast-power-"));
  readonly #disk = join(this.#dir, "recording-disk");

  constructor(subject: Subject<V>) {
    this.#subject = subject;
    const flags = execFileSync("pkg-config", ["--cflags", "--libs", "fuse3"], { encoding: "utf8" });
    const words = ["-O2", "-Wall", "-o", this.#disk, source, ...flags.trim().split(/\s+/)];
    execFileSync("gcc", words, { stdio: "inherit" });
  }

  [Symbol.dispose](): void {
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** One life of work on the recording disk, with a kill and restarts in it. */
  async record(seed: number): Promise<Recorded[]> {
    const log = join(this.#dir, "log");
    const at = this.#folder("fuse");
    const server = spawn(this.#disk, [log, String(DISK_BYTES), at], { stdio: "inherit" });
    try {
      await waitFor(() => existsSync(join(at, "disk")), { what: "the recording disk" });
      await this.#onLoop(join(at, "disk"), async (device) => {
        execFileSync("mkfs.ext4", ["-q", device], { stdio: "inherit" });
        await this.#mounted(device, (state) => this.#work(state, join(at, "marks"), seed));
      });
    } finally {
      execFileSync("umount", [at]);
      if (server.exitCode === null) await once(server, "exit");
    }
    const records = readRecording(log);
    rmSync(log);
    return records;
  }

  /** Cuts the power at `count` moments of the record after the program was ready. */
  async *cuts(records: readonly Recorded[], count: number, seed: number): AsyncGenerator<Cut<V>> {
    const random = new SeededRandom(seed);
    const ready = records.findIndex((one) => one.kind === "mark" && one.text.startsWith("ready"));
    const moments = Array.from(
      { length: count },
      () => ready + 1 + random.int(records.length - ready - 1),
    ).sort((a, b) => a - b);
    const disk = new ReplayedDisk(records, DISK_BYTES);
    for (const at of moments) {
      disk.advance(at);
      const image = join(this.#dir, "image");
      writeFileSync(image, disk.afterPowerCut(random));
      const marks = records.slice(0, at).flatMap((one) => (one.kind === "mark" ? one.text : []));
      const { lines, trouble } = await this.#startOver(image);
      const before = marks.map((mark) => mark.trim());
      yield { ...this.#subject.judge(before, lines), at, trouble };
    }
  }

  async #work(state: string, marks: string, seed: number): Promise<void> {
    const random = new SeededRandom(seed);
    for (let life = 0; life < 3; life++) {
      const words = ["work", join(state, "state"), this.#folder("run"), marks];
      const child = this.#start([...words, String(random.int(1e9)), String(life * 100_000)]);
      const killed = life === 0 && AbortSignal.timeout(500 + random.int(1_000));
      if (killed) killed.addEventListener("abort", () => child.kill("SIGKILL"), { once: true });
      const [code, signal] = await once(child, "exit");
      if (code !== 0 && signal !== "SIGKILL") throw new Error(`the program ended with ${code}`);
    }
  }

  async #startOver(
    image: string,
  ): Promise<{ readonly lines: string[]; readonly trouble: string | undefined }> {
    const run = this.#folder("run");
    rmSync(run, { recursive: true });
    const said = join(this.#dir, "said");
    let code: unknown;
    await this.#onLoop(image, (device) =>
      this.#mounted(device, async (state) => {
        [code] = await once(this.#start(["check", join(state, "state"), run, said]), "exit");
      }),
    );
    const lines = readFileSync(said, "utf8").trim().split("\n");
    const last = lines.at(-1) ?? "";
    const isWhole = code === 0 && last.startsWith("state ");
    const trouble = isWhole
      ? this.#subject.trouble(last.slice("state ".length))
      : `the program ended with ${String(code)}`;
    return { lines, trouble };
  }

  #start(words: readonly string[]): ChildProcess {
    return spawn(process.execPath, [this.#subject.program, ...words], {
      stdio: ["ignore", "ignore", "inherit"],
      // Most of the time of a cut was the compiling of the same sources.
      env: { ...process.env, NODE_COMPILE_CACHE: join(this.#dir, "compiled") },
    });
  }

  async #onLoop(file: string, action: (device: string) => Promise<void>): Promise<void> {
    const words = ["-b", "4096", "--show", "-f", file];
    const device = execFileSync("losetup", words, { encoding: "utf8" }).trim();
    try {
      await action(device);
    } finally {
      execFileSync("losetup", ["-d", device]);
    }
  }

  async #mounted(device: string, action: (folder: string) => Promise<void>): Promise<void> {
    const folder = this.#folder("mnt");
    execFileSync("mount", ["-t", "ext4", device, folder]);
    try {
      await action(folder);
    } finally {
      execFileSync("umount", [folder]);
    }
  }

  #folder(name: string): string {
    const path = join(this.#dir, name);
    mkdirSync(path, { recursive: true });
    accessSync(path);
    return path;
  }
}
