/** One run of job E with kill -9. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { SeededRandom } from "../seeded-random.ts";
import { waitFor } from "../wait-for.ts";
import type { LinkState, RunFigures } from "./table.ts";

const program = fileURLToPath(new URL("./process.ts", import.meta.url));

/** Accepts until it is killed, at a place that the seed says; then a second process drains. */
export async function killRun(seed: number, link: LinkState): Promise<RunFigures> {
  const dir = await mkdtemp(join(tmpdir(), "holdfast-row-e-"));
  const count = 50 + new SeededRandom(seed).int(3_000);
  try {
    const first = start([link, dir, "1"]);
    try {
      await waitFor(async () => first.exitCode !== null || (await said(dir)).accepted > count, {
        what: `${count} accepted messages`,
      });
    } finally {
      first.kill("SIGKILL");
    }
    await ended(first, "SIGKILL");
    await ended(start(["drain", dir]), null);
    return judge((await said(dir)).lines);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

function start(words: readonly string[]): ChildProcess {
  return spawn(process.execPath, [program, ...words], { stdio: ["ignore", "ignore", "inherit"] });
}

async function ended(child: ChildProcess, expected: NodeJS.Signals | null): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  const isFine = child.signalCode === expected && (expected !== null || child.exitCode === 0);
  if (!isFine) throw new Error(`it ended with ${child.exitCode} ${child.signalCode}`);
}

/** Whole lines only: a kill may tear the last one. */
async function said(dir: string): Promise<{ lines: string[][]; accepted: number }> {
  const text = await readFile(join(dir, "said"), "utf8").catch(() => "");
  const whole = text.slice(0, text.lastIndexOf("\n") + 1).split("\n");
  const lines = whole.map((line) => line.split(" "));
  return { lines, accepted: lines.filter(([word]) => word === "accepted").length };
}

function judge(lines: readonly (readonly string[])[]): RunFigures {
  const accepted = new Map<string, string>();
  const received = new Map<string, string>();
  const lastOf = new Map<string, number>();
  let duplicates = 0;
  let outOfOrder = 0;
  for (const [word, text = "", id = "", topic = ""] of lines) {
    if (word === "accepted") accepted.set(text, id);
    if (word !== "received") continue;
    const before = received.get(text);
    if (before !== undefined) {
      duplicates++;
      if (before !== id) throw new Error(`${text} came as ${before} and as ${id}`);
      continue;
    }
    received.set(text, id);
    if (Number(text) < (lastOf.get(topic) ?? 0)) outOfOrder++;
    lastOf.set(topic, Number(text));
  }
  const lost = [...accepted].filter(([text, id]) => received.get(text) !== id).length;
  return { accepted: accepted.size, lost, outOfOrder, duplicates };
}
