/** What an operator has of a device whose disk is full or read-only: alarms, and answers. */
import { execFileSync } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { silentLog } from "../../agent/core/log.ts";
import { SystemClock } from "../../agent/core/system-clock.ts";
import { SystemRandom } from "../../agent/core/system-random.ts";
import { openCommander } from "../../cloud/operator/operator.ts";
import { AgentProcess } from "../support/agent-process.ts";
import { startCloud } from "../support/cloud.ts";
import { fillUp, smallDisk, whyNoSmallDisk } from "../support/small-disk.ts";
import { tempDir } from "../support/temp-dir.ts";
import { waitFor } from "../support/wait-for.ts";

const missing = whyNoSmallDisk();
const reason = missing === undefined ? "" : ` (${missing})`;
const random = new SystemRandom();
const never = new AbortController().signal;

/** Its state is on a small disk of its own, its sockets are not. */
async function agentOnSmallDisk(port: number) {
  const disk = await smallDisk(64);
  const dir = await tempDir();
  await mkdir(join(dir, "state"));
  const toml = `[device]
client_id = "GID_demo@@@gw-01"
${account(port)}[control]
dir = "${join(dir, "state")}"
`;
  const agent = await AgentProcess.prepare(dir, toml);
  const state = `[state]\ndir = "${join(disk, "state")}"\nkeep_free_mb = 0\n[clock]\ntrust = "always"\n`;
  await writeFile(agent.config, toml + state, { mode: 0o600 });
  await agent.start();
  return { agent, disk, others: join(disk, "others") };
}

function account(port: number): string {
  return `[service]
endpoints = ["mqtt://127.0.0.1:${port}"]
instance_id = "mqtt-local"
[service.reconnect]
min_ms = 20
[auth]
access_key = "AK"
secret = "SK"
`;
}

async function commander(port: number) {
  const dir = await tempDir();
  const configFile = join(dir, "commander.toml");
  const toml = `[device]\nclient_id = "GID_demo@@@console"\n${account(port)}`;
  await writeFile(configFile, toml, { mode: 0o600 });
  const opened = await openCommander(
    { configFile, environment: { HOME: dir }, workingDir: dir },
    { clock: new SystemClock(), random, log: silentLog },
  );
  const request = { device: "gw-01", command: "system.ping", lifetimeMs: 60_000, wait: true };
  return async (): Promise<string | undefined> => {
    const sent = await opened.send({ ...request, progress: false }, { timeoutMs: 30_000 }, never);
    return sent.run.final?.reply.status;
  };
}

const lines = (lane: string, count: number, bytes: number) =>
  Array.from({ length: count }, () => {
    return { topic: "t", lane, payload: Buffer.from(random.bytes(bytes)).toString("base64") };
  });

it.skipIf(missing)(
  `offline on a full disk alarms are accepted, telemetry is refused, and both after it${reason}`,
  { timeout: 120_000 },
  async () => {
    const { agent, others } = await agentOnSmallDisk(1);
    expect((await agent.batch(lines("telemetry", 1_000, 1_500))).accepted).toBe(1_000);
    await fillUp(others);
    await waitFor(async () => (await agent.batch(lines("telemetry", 50, 1_500))).accepted === 0);
    expect((await agent.batch(lines("alarm", 100, 300))).accepted).toBe(100);
    await waitFor(async () => (await agent.status()).store.trouble !== null);

    // Safe is what accepted means: the next process has them, and starts on the full disk.
    const before = (await agent.status()).outbox.lanes;
    await agent.kill();
    await agent.start();
    const after = (await agent.status()).outbox.lanes;
    expect(after["alarm"]?.messages).toBeGreaterThanOrEqual(100);
    expect(after["telemetry"]?.messages).toBe(before["telemetry"]?.messages);

    await rm(others);
    await waitFor(async () => (await agent.batch(lines("telemetry", 50, 1_500))).accepted === 50);
    await waitFor(async () => (await agent.status()).store.trouble === null);
    expect(await agent.stop()).toBe(0);
  },
);

it.skipIf(missing)(
  `a device with a full or read-only disk answers what only reads${reason}`,
  { timeout: 120_000 },
  async () => {
    const { mqttPort } = await startCloud();
    const { agent, disk, others } = await agentOnSmallDisk(mqttPort);
    const ping = await commander(mqttPort);
    const finished = async () => (await agent.status()).commands.finished;
    expect(await ping()).toBe("succeeded");
    await waitFor(async () => (await finished()) === 1);

    await fillUp(others);
    await waitFor(async () => (await agent.status()).store.trouble !== null);
    expect(await ping()).toBe("succeeded");
    const recorded = await finished(); // As long as the reserve lasts it still leaves a record.

    await rm(others);
    await waitFor(async () => (await agent.status()).store.trouble === null);
    expect(await ping()).toBe("succeeded");
    await waitFor(async () => (await finished()) === recorded + 1);
    expect(await agent.stop()).toBe(0);

    execFileSync("mount", ["-o", "remount,ro", disk]);
    await agent.start();
    expect((await agent.status()).store).toMatchObject({ state: "read-only" });
    expect(await ping()).toBe("succeeded");
    expect((await agent.status()).store.trouble).toContain("read-only");
    expect(await finished()).toBe(0);
    execFileSync("mount", ["-o", "remount,rw", disk]);
    await waitFor(async () => (await agent.status()).store.state === "open");
    expect(await ping()).toBe("succeeded");
    await waitFor(async () => (await finished()) === 1);
    onTestFinished(() => agent.kill());
  },
);
