/** The MQ side of a service in a process of its own: kill -9, mqtt.js on one side, HTTP on the other. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { connectAsync, type MqttClient } from "mqtt";
import { expect, it, onTestFinished } from "vitest";
import { makeConnectPassword } from "../../../agent/protocol/connect-signature.ts";
import { type CloudProcess, spawnCloud } from "../../support/cloud-process.ts";
import { bodyOf, MqClient } from "../../support/mq-client.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";

const device = "GID_demo@@@gw-01";

async function dataFolder(): Promise<string> {
  const dir = await tempDir();
  const topics = ["GW_UP", "GW_DOWN", "GID_demo_MQTT"].map(
    (name) => `[[instance.topics]]\nname = "${name}"\n`,
  );
  const toml = `[data]
dir = "."
[[accounts]]
access_key = "AK"
secret = "SK"
[instance]
groups = ["GID_demo"]
${topics.join("")}[timings]
mq_lease_ms = 60000
`;
  await writeFile(join(dir, "cloud.toml"), toml, { mode: 0o600 });
  return dir;
}

async function mqttClient({ mqttPort }: CloudProcess, clientId: string): Promise<MqttClient> {
  const client = await connectAsync(`mqtt://127.0.0.1:${mqttPort}`, {
    clientId,
    username: "Signature|AK|mqtt-local",
    password: makeConnectPassword("SK", clientId),
    protocolVersion: 4,
    clean: true,
    reconnectPeriod: 0,
  });
  client.on("error", () => undefined);
  onTestFinished(() => client.endAsync(true));
  return client;
}

it("after kill -9 in between all that was acknowledged comes, and nothing that was confirmed", async () => {
  const dir = await dataFolder();
  const first = await spawnCloud(dir);
  const mq = new MqClient(first.httpPort);
  await mq.consume("GW_UP", "app");
  const client = await mqttClient(first, device);
  const safe = new Set<string>();
  const publishing = Array.from({ length: 2_000 }, async (_, i) => {
    await client.publishAsync("GW_UP/a", `mqtt ${i}`, { qos: 1 });
    safe.add(`mqtt ${i}`);
  });
  const settled = Promise.allSettled(publishing);
  const producing = (async () => {
    for (let i = 0; ; i++) {
      await mq.produce("GW_UP", `mq ${i}`);
      safe.add(`mq ${i}`);
    }
  })().catch(() => undefined);
  /** Given to the consumer; of the last few the kill may have come before the answer to the ack. */
  const handed = new Set<string>();
  const confirmed = new Set<string>();
  const consuming = (async () => {
    for (;;) {
      const messages = await mq.consume("GW_UP", "app", { max: 8, wait_ms: 1_000 });
      const ids = messages.map(({ id }) => id);
      for (const message of messages) handed.add(bodyOf(message));
      if (ids.length > 0) await mq.ack("GW_UP", "app", ids);
      for (const message of messages) confirmed.add(bodyOf(message));
    }
  })().catch(() => undefined);
  await waitFor(() => confirmed.size > 100 && safe.size > 300, { what: "some traffic" });
  await first.kill("SIGKILL");
  await client.endAsync(true);
  await Promise.all([settled, producing, consuming]);

  const second = await spawnCloud(dir);
  const rest = await new MqClient(second.httpPort).drain("GW_UP", "app");
  const bodies = rest.map(bodyOf);
  expect(new Set(bodies).size).toBe(bodies.length);
  for (const body of bodies) expect(confirmed).not.toContain(body);
  const all = new Set([...bodies, ...handed]);
  expect([...safe].filter((body) => !all.has(body))).toEqual([]);
  // Another group, new by now, finds nothing: all of it was confirmed by the only one there was.
  expect(await new MqClient(second.httpPort).consume("GW_UP", "late")).toEqual([]);
});

it("a command from the MQ side reaches mqtt.js, and its answer the consumers, ids and all", async () => {
  const service = await spawnCloud(await dataFolder());
  const mq = new MqClient(service.httpPort);
  const client = await mqttClient(service, device);
  client.on("message", (topic, payload) => {
    void client.publishAsync("GW_UP/reply", `${topic}: ${payload.toString()}`, { qos: 1 });
  });
  const properties = { mqttSecondTopic: `/p2p/${device}`, cleansessionflag: "false" };
  await mq.produce("GW_DOWN", "do it", properties, "MQ2MQTT");
  const [answer] = await mq.consume("GW_UP", "app", { wait_ms: 30_000 });
  expect(answer && bodyOf(answer)).toBe(`GW_DOWN/p2p/${device}: do it`);
  expect(answer?.properties).toEqual({
    mqttSecondTopic: "/reply",
    qoslevel: "1",
    cleansessionflag: "true",
    clientId: device,
  });
});

it("the channels that a kill -9 ended are told by the next start", async () => {
  const dir = await dataFolder();
  const first = await spawnCloud(dir);
  await mqttClient(first, device);
  const mq = new MqClient(first.httpPort);
  const [connect] = await mq.consume("GID_demo_MQTT", "watch", { wait_ms: 30_000 });
  await mq.ack("GID_demo_MQTT", "watch", [connect?.id ?? ""]);
  await first.kill("SIGKILL");
  const second = await spawnCloud(dir);
  const [end] = await new MqClient(second.httpPort).consume("GID_demo_MQTT", "watch", {
    tags: "tcpclean",
    wait_ms: 30_000,
  });
  const channel = (text = "{}"): unknown => (JSON.parse(text) as { channelId: string }).channelId;
  expect(channel(end && bodyOf(end))).toBe(channel(connect && bodyOf(connect)));
});
