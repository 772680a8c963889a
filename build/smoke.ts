/**
 * The smoke test of the bundle: dist/ is copied to an empty folder, where no node_modules can help,
 * and does there what an operator does first. Ends with the closing line of a test run.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The least that `status --json` must say for this test. */
interface Status {
  readonly outbox: { readonly lanes: Readonly<Record<string, { readonly messages: number }>> };
}

const root = dirname(import.meta.dirname);
/** A guard against hangs, for each step. */
const guardMs = 60_000;
const dir = await mkdtemp(join(tmpdir(), "holdfast-smoke-"));
const program = join(dir, "app", "holdfast.cjs");
const configFile = join(dir, "config.toml");
/** Nothing else leads outside. */
const environment = { PATH: "/usr/bin:/bin", HOME: dir };
const running = new Set<ChildProcess>();
const counts = { passed: 0, failed: 0, skipped: 0 };

try {
  await cp(join(root, "dist"), join(dir, "app"), { recursive: true });
  await writeConfig();
  await steps();
} finally {
  for (const child of running) child.kill("SIGKILL");
  await rm(dir, { recursive: true, force: true, maxRetries: 3 });
}
const { passed, failed, skipped } = counts;
process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`);
process.exitCode = failed > 0 ? 1 : 0;

async function steps(): Promise<void> {
  const manifest = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as {
    version: string;
  };
  await step("version tells the version", async () => {
    const { code, stdout } = await holdfast("version");
    expect(code === 0 && stdout.includes(manifest.version), stdout);
  });
  await step("config show --docs documents the keys", async () => {
    const { code, stdout, stderr } = await holdfast("config", "show", "--docs");
    expect(code === 0 && stdout.includes("persist_delay_ms"), stdout + stderr);
  });
  await step("a wrong configuration ends with 2 and names the key", async () => {
    const file = join(dir, "wrong.toml");
    await writeFile(file, '[device]\nclient_idd = "x"\n', { mode: 0o600 });
    const { code, stderr } = await holdfast("run", "--config", file);
    expect(code === 2 && stderr.includes("client_idd"), `exit ${code}: ${stderr}`);
  });
  let agent = startAgent();
  await step("run becomes ready without a broker, and status answers", async () => {
    expect((await queued(agent)) !== undefined, agent.stderr());
  });
  await step("publish is accepted", async () => {
    const { code, stderr } = await withConfig("publish", "smoke/test", "held fast");
    expect(code === 0, `exit ${code}: ${stderr}`);
    expect((await queued(agent)) === 1, "the message is not in the lane");
  });
  await step("a second agent on the same state ends with 1", async () => {
    const { code, stderr } = await withConfig("run");
    expect(code === 1, `exit ${code}: ${stderr}`);
  });
  await step("SIGTERM ends it with exit 0", () => stopAgent(agent));
  agent = startAgent();
  await step("the message is still queued after a restart", async () => {
    const messages = await queued(agent);
    expect(messages === 1, `${messages} messages; ${agent.stderr()}`);
  });
  await step("SIGTERM ends it again with exit 0", () => stopAgent(agent));
}

async function step(name: string, action: () => Promise<void>): Promise<void> {
  try {
    await action();
    counts.passed++;
    process.stdout.write(`passed: ${name}\n`);
  } catch (error) {
    counts.failed++;
    const why = error instanceof Error ? error.message : String(error);
    process.stdout.write(`FAILED: ${name}: ${why}\n`);
  }
}

function expect(condition: boolean, otherwise: string): void {
  if (!condition) throw new Error(otherwise.trim().slice(-2_000) || "it is not so");
}

async function writeConfig(): Promise<void> {
  // Port 9 of the loopback takes no connection: the agent must be useful without a broker.
  const text = `
[device]
client_id = "GID_smoke@@@bundle"
[service]
endpoints = ["mqtt://127.0.0.1:9"]
instance_id = "mqtt-smoke"
[auth]
mode = "signature"
access_key = "AK"
secret = "SK"
[topics]
up = "GW_UP"
down = "GW_DOWN"
[state]
dir = ${JSON.stringify(join(dir, "state"))}
[control]
dir = ${JSON.stringify(join(dir, "run"))}
[plugins]
dir = ${JSON.stringify(join(dir, "plugins"))}
`;
  await Promise.all(["state", "run", "plugins"].map((name) => mkdir(join(dir, name))));
  await writeFile(configFile, text, { mode: 0o600 });
}

function holdfast(...args: string[]): Promise<Result> {
  const options = { cwd: dir, env: environment, timeout: guardMs };
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [program, ...args],
      options,
      (error, stdout, stderr) => {
        resolve({ code: error ? (child.exitCode ?? -1) : 0, stdout, stderr });
      },
    );
  });
}

function withConfig(...args: string[]): Promise<Result> {
  return holdfast(...args, "--config", configFile);
}

interface Agent {
  readonly child: ChildProcess;
  stderr(): string;
}

function startAgent(): Agent {
  const child = spawn(process.execPath, [program, "run", "--config", configFile], {
    cwd: dir,
    env: environment,
    stdio: ["ignore", "ignore", "pipe"],
  });
  running.add(child);
  child.once("exit", () => running.delete(child));
  let text = "";
  child.stderr?.setEncoding("utf8").on("data", (more: string) => {
    text = (text + more).slice(-10_000);
  });
  return { child, stderr: () => text };
}

/** How many telemetry messages wait, once the agent answers. */
async function queued({ child, stderr }: Agent): Promise<number> {
  const endMs = performance.now() + guardMs;
  for (;;) {
    const { code, stdout, stderr: said } = await withConfig("status", "--json");
    if (code === 0) {
      const status = JSON.parse(stdout) as Status;
      return status.outbox.lanes["telemetry"]?.messages ?? 0;
    }
    const ended = child.exitCode !== null || child.signalCode !== null;
    if (ended || performance.now() > endMs) throw new Error(`no status: ${said}\n${stderr()}`);
    await pause(100);
  }
}

async function stopAgent({ child, stderr }: Agent): Promise<void> {
  const exit = once(child, "exit", { signal: AbortSignal.timeout(guardMs) });
  if (child.exitCode !== null) throw new Error(`it had ended with ${child.exitCode}: ${stderr()}`);
  child.kill("SIGTERM");
  const [code, signal] = (await exit) as [number | null, string | null];
  expect(code === 0, `exit ${code ?? signal}: ${stderr()}`);
}
