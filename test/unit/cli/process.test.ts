/** The program as a real process: streams, signals and the exit status. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { waitFor } from "../../support/wait-for.ts";
import { startControl } from "../control/fixture.ts";

const main = join(import.meta.dirname, "../../../agent/main.ts");

function start(argv: readonly string[], env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [main, ...argv], { env: { ...process.env, ...env } });
  const output = { out: "", err: "" };
  child.stdout.on("data", (data: Buffer) => {
    output.out += data.toString();
  });
  child.stderr.on("data", (data: Buffer) => {
    output.err += data.toString();
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  return { child, output, status: exitOf(child) };
}

async function exitOf(child: ChildProcess): Promise<number | string> {
  const [code, signal]: (number | string)[] = await once(child, "close");
  return code ?? signal ?? "?";
}

test("everything that was written arrives before the exit", async () => {
  const { output, status } = start(["config", "show", "--docs"]);
  expect(await status).toBe(0);
  expect(output.err).toBe("");
  expect(output.out).toContain("[device]");
  expect(output.out).toContain("[log]");
});

test("the exit status reaches the shell", async () => {
  const { output, status } = start(["status", "--jsno"]);
  expect(await status).toBe(2);
  expect(output.err).toContain("Did you mean --json?");
});

test("stdin is a payload, whole", async () => {
  const { dir, messages } = await startControl();
  const { child, status } = start(["publish", "t", "-"], { HOLDFAST_CONTROL__DIR: dir });
  const payload = Buffer.alloc(60_000, 7);
  child.stdin?.end(payload);
  expect(await status).toBe(0);
  expect(messages.map((message) => Buffer.from(message.payload))).toEqual([payload]);
});

test("SIGTERM ends what waits, and is no crash", async () => {
  const { dir } = await startControl();
  const argv = ["status", "--watch", "1000"];
  const { child, output, status } = start(argv, { HOLDFAST_CONTROL__DIR: dir });
  await waitFor(() => output.out.includes("connection"));
  child.kill("SIGTERM");
  expect(await status).toBe(0);
  expect(output.err).toBe("");
});

test("a reader that goes away ends it without a word", async () => {
  const { dir } = await startControl();
  const argv = ["status", "--watch", "0.1"];
  const { child, output, status } = start(argv, { HOLDFAST_CONTROL__DIR: dir });
  await waitFor(() => output.out.includes("connection"));
  child.stdout.destroy();
  expect(await status).toBe(0);
  expect(output.err).toBe("");
});

test("SIGTERM ends a reader although stdin says nothing more", async () => {
  const { dir, messages } = await startControl();
  const argv = ["publish", "t", "--lines"];
  const { child, output, status } = start(argv, { HOLDFAST_CONTROL__DIR: dir });
  child.stdin?.write("whole\nnot who");
  await waitFor(() => messages.length === 1, { what: "the whole line" });
  child.kill("SIGTERM");
  expect(await status).toBe(1);
  expect(output.err).toContain("cancelled");
  expect(messages.length).toBe(1);
});
