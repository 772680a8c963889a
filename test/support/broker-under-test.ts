/** The brokers that the agent is held to, behind one face: our own service, and Mosquitto. */
import { type ChildProcess, spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { connectAsync, type IClientOptions, type MqttClient } from "mqtt";
import { onTestFinished } from "vitest";
import {
  makeConnectPassword,
  makeConnectUsername,
} from "../../agent/protocol/connect-signature.ts";
import { spawnCloud } from "./cloud-process.ts";
import { tempDir } from "./temp-dir.ts";
import { waitFor } from "./wait-for.ts";

export interface BrokerUnderTest {
  readonly port: number;
  /** The agent's configuration for this client id, reached through `port`. */
  agentToml(clientId: string, port: number): string;
  /** A stranger's client with a persistent session. */
  client(clientId: string): Promise<MqttClient>;
}

/** `holdfast cloud` in a process of its own. */
export async function startOwnService(): Promise<BrokerUnderTest> {
  const dir = await tempDir();
  const [accessKey, secret, instanceId] = ["AK", "SK-of-the-suite", "mqtt-local"];
  const settings = `[[accounts]]
access_key = "${accessKey}"
secret = "${secret}"
[instance]
id = "${instanceId}"
groups = ["GID_demo"]
topics = [{ name = "GW_UP" }, { name = "GW_DOWN" }]
[timings]
ack_timeout_ms = 1000
offline_interval_ms = 500
`;
  await writeFile(join(dir, "cloud.toml"), settings, { mode: 0o600 });
  const cloud = await spawnCloud(dir);
  return {
    port: cloud.mqttPort,
    agentToml: (clientId, port) =>
      `${common(clientId, port)}\n[auth]\naccess_key = "${accessKey}"\nsecret = "${secret}"\n`,
    client: (clientId) =>
      connectClient(cloud.mqttPort, clientId, {
        username: makeConnectUsername({ mode: "Signature", accessKey, instanceId }),
        password: makeConnectPassword(secret, clientId),
      }),
  };
}

/** Debian's Mosquitto, with bounds that do not drop what the test counts. */
export async function startMosquitto(): Promise<BrokerUnderTest> {
  const dir = await tempDir();
  const port = await freePort();
  const file = join(dir, "mosquitto.conf");
  const settings = [
    `listener ${port} 127.0.0.1`,
    "allow_anonymous true",
    "persistence false",
    "max_queued_messages 0",
    "max_inflight_messages 1000",
    "user root",
  ];
  await writeFile(file, `${settings.join("\n")}\n`);
  const child: ChildProcess = spawn("/usr/sbin/mosquitto", ["-c", file], { stdio: "ignore" });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  await waitFor(
    () =>
      connectClient(port, "probe", {})
        .then((client) => client.endAsync(true))
        .then(() => true),
    {
      what: "mosquitto to listen",
    },
  );
  return {
    port,
    agentToml: (clientId, agentPort) =>
      `${common(clientId, agentPort)}profile = "mqtt"\n[auth]\nmode = "password"\n`,
    client: (clientId) => connectClient(port, clientId, {}),
  };
}

function common(clientId: string, port: number): string {
  return `[commands]
allow_unsigned = ["system.*"]
reply_rate = 1000
[device]
client_id = "${clientId}"
[service]
endpoints = ["mqtt://127.0.0.1:${port}"]
reconnect.min_ms = 20
reconnect.max_ms = 200
reconnect.refused_min_ms = 200
reconnect.takeover_min_ms = 200
`;
}

async function connectClient(
  port: number,
  clientId: string,
  credentials: IClientOptions,
): Promise<MqttClient> {
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, {
    clientId,
    clean: false,
    reconnectPeriod: 0,
    connectTimeout: 10_000,
    ...credentials,
  });
  onTestFinished(async () => {
    await client.endAsync(true);
  });
  return client;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
