/** Runs the script of `child.ts` with one operation failing, and judges what it leaves. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { whyMissing } from "../../../build/system-packages.ts";

export const faultKinds = ["write", "sync", "space"] as const;
export type FaultKind = (typeof faultKinds)[number];

const child = fileURLToPath(new URL("./child.ts", import.meta.url));
const source = fileURLToPath(new URL("./faults.c", import.meta.url));
const RUN_LIMIT_MS = 60_000;

/** Why it cannot be done here; undefined: it can. */
export function whyNoFaults(): string | undefined {
  if (process.platform !== "linux") return "faults are preloaded on Linux only";
  return whyMissing("gcc") ?? whyMissing("libc6-dev");
}

export class FaultRig {
  readonly #dir: string;
  readonly #library: string;

  static async make(): Promise<FaultRig> {
    const dir = await mkdtemp(join(tmpdir(), "holdfast-faults-"));
    const library = join(dir, "faults.so");
    const made = spawnSync("gcc", ["-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"]);
    if (made.status !== 0) throw new Error(`gcc: ${made.stderr.toString()}`);
    return new FaultRig(dir, library);
  }

  private constructor(dir: string, library: string) {
    this.#dir = dir;
    this.#library = library;
  }

  remove(): Promise<void> {
    return rm(this.#dir, { recursive: true, force: true });
  }

  /** Operations of a kind in a run without a fault. */
  async count(kind: FaultKind): Promise<number> {
    const at = join(this.#dir, `count-${kind}`);
    await this.#run("run", at, { FAULT_KIND: kind, FAULT_AT: "0", FAULT_COUNT: `${at}.count` });
    return Number(await readFile(`${at}.count`, "utf8"));
  }

  /** What is wrong after a run in which operation `n` failed; undefined: nothing. */
  async fail(kind: FaultKind, n: number): Promise<string | undefined> {
    const at = join(this.#dir, `${kind}-${n}`);
    try {
      await this.#run("run", at, { FAULT_KIND: kind, FAULT_AT: String(n) });
      await this.#run("check", at, {});
      return judge(await readFile(`${at}.said`, "utf8"));
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    } finally {
      for (const end of ["", ".said", ".run"]) await rm(at + end, { recursive: true, force: true });
    }
  }

  async #run(mode: string, dir: string, faults: Record<string, string>): Promise<void> {
    await mkdir(this.#dir, { recursive: true });
    const preload = mode === "run" ? { LD_PRELOAD: this.#library, FAULT_DIR: `${dir}/` } : {};
    const process_ = spawn(process.execPath, [child, mode, dir], {
      env: {
        ...process.env,
        NODE_COMPILE_CACHE: join(this.#dir, "compiled"),
        ...preload,
        ...faults,
      },
      stdio: ["ignore", "ignore", "pipe"],
      timeout: RUN_LIMIT_MS,
      killSignal: "SIGKILL",
    });
    let errors = "";
    process_.stderr.on("data", (chunk: Buffer) => {
      errors += chunk.toString();
    });
    const [code, signal] = (await once(process_, "exit")) as [number | null, string | null];
    if (code !== 0)
      throw new Error(`${mode} ended with ${code ?? signal}: ${errors.slice(0, 2_000)}`);
  }
}

function judge(said: string): string | undefined {
  const lines = said.split("\n").map((line) => line.split(" "));
  const texts = (word: string) => lines.filter(([first]) => first === word).map(([, text]) => text);
  const [accepted, settled, there] = [texts("accepted"), new Set(texts("settled")), texts("there")];
  if (accepted.length !== 72) return `${accepted.length} of 72 were accepted`;
  const lost = accepted.filter((text) => !settled.has(text) && !there.includes(text));
  if (lost.length > 0) return `accepted and gone: ${lost.join(", ")}`;
  const strange = there.filter((text) => !accepted.includes(text));
  if (strange.length > 0) return `there and never accepted: ${strange.join(", ")}`;
  if (new Set(there).size !== there.length) return `there twice: ${there.join(", ")}`;
  return undefined;
}
