/** I1, I2, I3 over the real database, with processes that end by SIGKILL. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";

const program = fileURLToPath(new URL("./outbox-process.ts", import.meta.url));

function start(nodeOptions: readonly string[], words: readonly string[]) {
  const child: ChildProcess = spawn(process.execPath, [...nodeOptions, program, ...words], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  let errors = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const ended = once(child, "exit").then(([code, signal]) => ({ code, signal, errors }));
  return { child, ended };
}

async function said(dir: string, word: string): Promise<string[][]> {
  const text = await readFile(join(dir, "said"), "utf8").catch(() => "");
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  return whole
    .split("\n")
    .map((line) => line.split(" "))
    .filter(([first]) => first === word);
}

/** Runs it until it has said `count` such lines, then kills it; its messages so far stay. */
async function runAndKill(dir: string, words: string[], word: string, count: number) {
  const { child, ended } = start([], words);
  await waitFor(async () => child.exitCode !== null || (await said(dir, word)).length >= count, {
    what: `${count} lines of ${word}`,
  });
  child.kill("SIGKILL");
  expect(await ended).toMatchObject({ signal: "SIGKILL", errors: "" });
}

async function runToEnd(words: string[], nodeOptions: string[] = []): Promise<void> {
  const { ended } = start(nodeOptions, words);
  expect(await ended).toEqual({ code: 0, signal: null, errors: "" });
}

test("10,000 accepted offline and drained, with kill -9 at random points of both", async () => {
  const dir = await tempDir();
  const window = 64;
  const between = (low: number, high: number) => low + Math.floor(Math.random() * (high - low));

  let phase = 0;
  for (const share of [between(100, 2_000), between(2_500, 5_000), between(5_500, 9_000)]) {
    await runAndKill(dir, ["fill", dir, String(++phase * 100_000), "100000"], "accepted", share);
  }
  const left = Math.max(0, 10_000 - (await said(dir, "accepted")).length);
  await runToEnd(["fill", dir, String(++phase * 100_000), String(left)]);
  const accepted = (await said(dir, "accepted")).map(([, text, id]) => ({ text, id }));
  expect(accepted.length).toBeGreaterThanOrEqual(10_000);

  const kills = [between(50, 2_000), between(2_500, 5_000), between(5_500, 9_000)];
  for (const count of kills) {
    await runAndKill(dir, ["drain", dir, String(window), "500"], "received", count);
  }
  await runToEnd(["drain", dir, String(window), "0"]);

  const ids = new Map<string, string>();
  const lastOf = new Map<string, number>();
  let duplicates = 0;
  for (const [, text = "", id = "", topic = ""] of await said(dir, "received")) {
    const before = ids.get(text);
    if (before !== undefined) {
      duplicates++;
      expect(`${id} ${topic}`, `message ${text} again`).toBe(before);
      continue;
    }
    ids.set(text, `${id} ${topic}`);
    expect(Number(text), `order in ${topic}`).toBeGreaterThan(lastOf.get(topic) ?? 0);
    lastOf.set(topic, Number(text));
  }
  const lost = accepted.filter(({ text = "", id }) => !ids.get(text)?.startsWith(`${id} `));
  expect(lost).toEqual([]);
  expect(duplicates).toBeLessThanOrEqual(window * kills.length);
});

test("memory stays flat while 200,000 messages are queued, and the next start is quick", async () => {
  const dir = await tempDir();
  await runToEnd(["memory", dir, "200000"], ["--max-old-space-size=64"]);
  const heaps = (await said(dir, "heap")).map(([, , bytes]) => Number(bytes) / 1e6);
  expect(heaps.length).toBe(10);
  const [, early = 0] = heaps;
  const last = heaps.at(-1) as number;
  // 160,000 messages of 200 bytes came between these two; each record of 32 leaves a small object.
  expect(last - early).toBeLessThan(6);

  await runToEnd(["fill", dir, "1", "1"]);
  const started = (await said(dir, "started")).map(([, ms]) => Number(ms)).at(-1) as number;
  process.stdout.write(
    `heap ${early.toFixed(1)} MB at 40,000 and ${last.toFixed(1)} MB at 200,000 messages; ` +
      `start with 200,000 queued: ${started} ms\n`,
  );
  expect(started).toBeLessThan(10_000);
});

test("30,000 messages put one after the other take some bytes each, not an object", async () => {
  const dir = await tempDir();
  await runToEnd(
    ["memory", dir, "30000", "1"],
    [...["--max-old-space-size=96", "--max-semi-space-size=1"]],
  );
  const heaps = (await said(dir, "heap")).map(([, , bytes]) => Number(bytes));
  expect(heaps.length).toBe(3);
  const [early = 0, , last = 0] = heaps;
  const perRecord = (last - early) / 20_000;
  process.stdout.write(`${perRecord.toFixed(1)} bytes of memory for each record that waits\n`);
  // 28 in a chunk; as an object a record took 260.
  expect(perRecord).toBeLessThan(48);
});
