import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { connectAsync } from "mqtt";
import { expect, it, onTestFinished } from "vitest";
import { loadConfig } from "../../agent/config/config.ts";
import { makeConnectPassword } from "../../agent/protocol/connect-signature.ts";
import { makeHttpSignature } from "../../agent/protocol/http-signature.ts";
import { spawnCloud } from "../support/cloud-process.ts";
import { RawClient } from "../support/raw-client.ts";
import { tempDir } from "../support/temp-dir.ts";
import { waitFor } from "../support/wait-for.ts";

const device = "GID_demo@@@gw-01";
const senderId = "GID_demo@@@console";
const toDevice = `GW_DOWN/p2p/${device}`;

/** With account AK and secret SK, as the raw client has them. */
async function dataFolder(): Promise<string> {
  const dir = await tempDir();
  const toml = `[data]
dir = "."
[[accounts]]
access_key = "AK"
secret = "SK"
[instance]
groups = ["GID_demo"]
[[instance.topics]]
name = "GW_UP"
[[instance.topics]]
name = "GW_DOWN"
`;
  await writeFile(join(dir, "cloud.toml"), toml, { mode: 0o600 });
  return dir;
}

it("kill -9 loses nothing that was acknowledged, at a random moment of a stream", async () => {
  const dir = await dataFolder();
  const first = await spawnCloud(dir);
  const subscriber = await RawClient.connect(first.mqttPort, { clientId: device, clean: false });
  await subscriber.subscribe("GW_UP/#");
  await subscriber.disconnect();
  const sender = await RawClient.connect(first.mqttPort, { clientId: senderId, clean: false });
  for (let i = 1; i <= 4_000; i++) {
    sender.publish(i % 2 ? toDevice : "GW_UP/a", `m${i}`, { messageId: i });
  }
  await waitFor(() => sender.all("puback").length > 300);
  expect(await first.kill("SIGKILL")).toBe("SIGKILL");
  await sender.untilClosed();
  const acknowledged = sender.all("puback").map(({ messageId }) => `m${messageId}`);

  const second = await spawnCloud(dir);
  const target = await RawClient.connect(second.mqttPort, { clientId: device, clean: false });
  expect(target.packets[0]).toMatchObject({ cmd: "connack", sessionPresent: true });
  expect(await target.untilMessages(30)).toHaveLength(30);
  await second.kill("SIGTERM");

  // The same data with a short interval: all of it comes.
  await writeFile(
    join(dir, "cloud.toml"),
    `${await readFile(join(dir, "cloud.toml"), "utf8")}[timings]\noffline_interval_ms = 1\nack_timeout_ms = 200\n`,
  );
  const third = await spawnCloud(dir);
  const again = await RawClient.connect(third.mqttPort, { clientId: device, clean: false });
  const received = (): Set<string> => new Set([...target.payloads, ...again.payloads]);
  await waitFor(() => acknowledged.every((payload) => received().has(payload)), {
    what: `${acknowledged.length} acknowledged messages`,
  });
});

it("SIGTERM ends it cleanly, with clients connected", async () => {
  const dir = await dataFolder();
  const service = await spawnCloud(dir);
  const client = await RawClient.connect(service.mqttPort, { clientId: device });
  expect(await service.kill("SIGTERM")).toBe(0);
  await client.untilClosed();
});

it("a second service on the same folder is refused by name", async () => {
  const dir = await dataFolder();
  await spawnCloud(dir);
  await expect(spawnCloud(dir)).rejects.toThrow(/ended with 1: (.|\n)*store_locked/);
});

it("a first start prints sections that an agent and a commander can use, and mqtt.js connects", async () => {
  const dir = await tempDir();
  const service = await spawnCloud(dir);
  const [, agentToml = ""] =
    /ready to run:\n\n([\s\S]*?)\n# For a commander/.exec(service.output()) ?? [];
  const file = join(dir, "agent.toml");
  await writeFile(file, `${agentToml}\n[state]\ndir = "${dir}/state"\n`, { mode: 0o600 });
  const { config } = loadConfig({ file, environment: {}, folders: { working: dir, home: dir } });
  const secret = config.auth.secret?.reveal() ?? "";

  const client = await connectAsync(config.service.endpoints[0] ?? "", {
    clientId: config.device.client_id,
    username: `Signature|${config.auth.access_key}|${config.service.instance_id}`,
    password: makeConnectPassword(secret, config.device.client_id),
    protocolVersion: 4,
    keepalive: 90,
    clean: false,
    reconnectPeriod: 0,
  });
  onTestFinished(() => client.endAsync(true));
  const received: string[] = [];
  client.on("message", (topic, payload) => received.push(`${topic} ${payload.toString()}`));
  await client.subscribeAsync(`${config.topics.up}/+`, { qos: 2 });
  for (const qos of [0, 1, 2] as const) {
    await client.publishAsync(`${config.topics.up}/q${qos}`, "x", { qos });
  }
  await client.publishAsync(`${config.topics.down}/p2p/${config.device.client_id}`, "me", {
    qos: 1,
  });
  await waitFor(() => received.length === 4);
  expect(received.sort()).toEqual([
    `GW_DOWN/p2p/${config.device.client_id} me`,
    "GW_UP/q0 x",
    "GW_UP/q1 x",
    "GW_UP/q2 x",
  ]);

  const parameters = {
    accessKey: config.auth.access_key,
    resource: config.device.client_id,
    timestamp: String(Date.now()),
    instanceId: config.service.instance_id,
  };
  const signature = makeHttpSignature(secret, parameters);
  const query = new URLSearchParams({ ...parameters, signature }).toString();
  const answer = await fetch(`http://127.0.0.1:${service.httpPort}/route/clientId/get?${query}`);
  expect(await answer.json()).toMatchObject({ code: 0, online: 1 });
});

it("--data is where the data is, also when the file there names no folder", async () => {
  const dir = await dataFolder();
  const file = join(dir, "cloud.toml");
  const withoutFolder = (await readFile(file, "utf8")).replace('[data]\ndir = "."\n', "");
  await writeFile(file, withoutFolder, { mode: 0o600 });
  const cloud = await spawnCloud(dir);
  expect(await readdir(dir)).toContain("db");
  expect(await cloud.kill("SIGTERM")).toBe(0);
});
