/**
 * Real power cuts: an outbox in a process of its own works on ext4, on a loop device, on a file whose
 * FUSE server records writes, flushes and what the outbox said in one order. Any moment of that
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
import { judge, type Received, saidIn, type Verdict } from "./verdict.ts";

const DISK_BYTES = 48 * 1024 * 1024;
const SCRATCH = "/dev/shm";
const program = fileURLToPath(new URL("./outbox-child.ts", import.meta.url));
const source = fileURLToPath(new URL("./recording-disk.c", import.meta.url));

export interface Cut extends Verdict {
  /** Index in the record. */
  readonly at: number;
  /** Why the new process needed help; undefined: it did not. */
  readonly trouble: string | undefined;
}

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

export class PowerRig implements Disposable {
  readonly #dir = mkdtempSync(join(SCRATCH, "holdfast-power-"));
  readonly #disk = join(this.#dir, "recording-disk");

  constructor() {
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

  /** Cuts the power at `count` moments of the record after the outbox was ready. */
  async *cuts(records: readonly Recorded[], count: number, seed: number): AsyncGenerator<Cut> {
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
      const { received, trouble } = await this.#startOver(image);
      yield { at, trouble, ...judge(saidIn(marks), received) };
    }
  }

  async #work(state: string, marks: string, seed: number): Promise<void> {
    const random = new SeededRandom(seed);
    for (let life = 0; life < 3; life++) {
      const words = ["work", join(state, "state"), this.#folder("run"), marks];
      const child = start([...words, String(random.int(1e9)), String(life * 100_000)]);
      const killed = life === 0 && AbortSignal.timeout(500 + random.int(1_000));
      if (killed) killed.addEventListener("abort", () => child.kill("SIGKILL"), { once: true });
      const [code, signal] = await once(child, "exit");
      if (code !== 0 && signal !== "SIGKILL") throw new Error(`the outbox ended with ${code}`);
    }
  }

  async #startOver(image: string): Promise<{ received: Received[]; trouble: string | undefined }> {
    const run = this.#folder("run");
    rmSync(run, { recursive: true });
    const marks = join(this.#dir, "said");
    let code: unknown;
    await this.#onLoop(image, (device) =>
      this.#mounted(device, async (state) => {
        [code] = await once(start(["check", join(state, "state"), run, marks]), "exit");
      }),
    );
    const text = readFileSync(marks, "utf8");
    const lines = text.split("\n").map((line) => line.split(" "));
    const received = lines
      .filter(([word, number]) => word === "received" && number !== "0")
      .map(([, number, id = "", topic = ""]) => ({ number: Number(number), id, topic }));
    const told = lines
      .find(([word]) => word === "state")
      ?.slice(1)
      .join(" ");
    return { received, trouble: whatNeedsHelp(code, told) };
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

function start(words: readonly string[]): ChildProcess {
  return spawn(process.execPath, [program, ...words], { stdio: ["ignore", "ignore", "inherit"] });
}

function whatNeedsHelp(code: unknown, told: string | undefined): string | undefined {
  if (code !== 0 || told === undefined) return `the outbox ended with ${String(code)}`;
  const { state, damaged, writable, salvage, dropped } = JSON.parse(told);
  const lossless = (dropped as object[]).every((reasons) => Object.keys(reasons).length === 0);
  const fine = state === "open" && damaged === 0 && writable !== undefined && !salvage && lossless;
  return fine ? undefined : told;
}
