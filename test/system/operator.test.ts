/** The commander against a standard broker: Mosquitto from Debian, profile mqtt, no account. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { silentLog } from "../../agent/core/log.ts";
import { SystemClock } from "../../agent/core/system-clock.ts";
import { SystemRandom } from "../../agent/core/system-random.ts";
import { openCommander } from "../../cloud/operator/operator.ts";
import { connectDevice } from "../support/fake-device.ts";
import { tempDir } from "../support/temp-dir.ts";
import { waitFor } from "../support/wait-for.ts";

const binary = "/usr/sbin/mosquitto";
const hasMosquitto = spawnSync(binary, ["-h"]).error === undefined;
const never = new AbortController().signal;
const request = {
  device: "gw-01",
  command: "system.ping",
  lifetimeMs: 60_000,
  wait: true,
  progress: false,
};

test.skipIf(!hasMosquitto)(
  "Mosquitto: the reply comes, and one that was sent while nobody was there waits",
  { timeout: 60_000 },
  async () => {
    const dir = await tempDir();
    const port = await startMosquitto(dir);
    const commander = await makeCommander(dir, port);
    const device = await connectDevice({ port, device: "gw-01", plain: true });

    const sent = await commander.send(request, { timeoutMs: 20_000 }, never);
    expect(sent.run.final?.reply).toMatchObject({ device: "gw-01", status: "succeeded" });

    await device.close();
    const open = await commander.send({ ...request, wait: false }, { timeoutMs: 20_000 }, never);
    expect(open.run.final).toBeUndefined();
    const returned = await connectDevice({ port, device: "gw-01", plain: true });
    await waitFor(() => returned.seen.length === 1);
    await returned.close(); // It has answered, and the commander was not there.
    const found = await commander.wait(open.run.id, { timeoutMs: 20_000 }, never);
    expect(found.run.final?.reply.status).toBe("succeeded");
    expect(await commander.presence(["gw-01"], never)).toEqual([
      { device: "gw-01", online: null, connections: null, source: "none" },
    ]);
  },
);

async function makeCommander(dir: string, port: number) {
  const configFile = join(dir, "commander.toml");
  await writeFile(
    configFile,
    `[device]
client_id = "console"
[service]
profile = "mqtt"
endpoints = ["mqtt://127.0.0.1:${port}"]
[auth]
mode = "password"
`,
  );
  return openCommander(
    { configFile, environment: { HOME: dir }, workingDir: dir },
    { clock: new SystemClock(), random: new SystemRandom(), log: silentLog },
  );
}

/** Resolves with its port once it takes connections. */
async function startMosquitto(dir: string): Promise<number> {
  const port = await freePort();
  const file = join(dir, "mosquitto.conf");
  await writeFile(file, `listener ${port} 127.0.0.1\nallow_anonymous true\npersistence false\n`);
  const child = spawn(binary, ["-c", file], { stdio: "ignore" });
  onTestFinished(() => ended(child));
  await waitFor(() => accepts(port), { what: "mosquitto" });
  return port;
}

/** Mosquitto cannot choose one by itself. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await exited;
}
