/** The quarantine of a whole agent: alarm, list, kill -9, retry by the operator's program. */
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { connectAsync } from "mqtt";
import { expect, onTestFinished, test } from "vitest";
import {
  makeConnectPassword,
  makeConnectUsername,
} from "../../agent/protocol/connect-signature.ts";
import { AgentProcess } from "../support/agent-process.ts";
import { spawnCloud } from "../support/cloud-process.ts";
import { tempDir } from "../support/temp-dir.ts";
import { waitFor } from "../support/wait-for.ts";

const DEVICE = "GID_demo@@@gw-01";
const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));
const run = promisify(execFile);

const service = (topics: readonly string[]): string => `[[accounts]]
access_key = "AK"
secret = "SK"
[instance]
id = "mqtt-local"
groups = ["GID_demo"]
topics = [${topics.map((name) => `{ name = "${name}" }`).join(", ")}]
`;

test("a topic that the service does not know is set aside, and goes out in order when it does", async () => {
  const dir = await tempDir();
  await writeFile(join(dir, "cloud.toml"), service(["GW_DOWN"]), { mode: 0o600 });
  const first = await spawnCloud(dir);
  const toml = `[device]
client_id = "${DEVICE}"
[service]
endpoints = ["mqtt://127.0.0.1:${first.mqttPort}"]
reconnect.min_ms = 10
reconnect.max_ms = 50
reconnect.refused_min_ms = 50
reconnect.takeover_min_ms = 50
[auth]
access_key = "AK"
secret = "SK"
[health]
interval_s = 3600
`;
  const agent = await AgentProcess.prepare(await tempDir(), toml);
  await agent.start();
  const texts = Array.from({ length: 50 }, (_, i) => String(i + 1));
  const { accepted } = await agent.batch(texts.map((payload) => ({ topic: "room", payload })));
  expect(accepted).toBe(50);
  const parked = async (): Promise<number> => (await agent.status()).outbox.quarantined;
  await waitFor(async () => (await parked()) >= 50, { what: "the messages in quarantine" });
  await waitFor(async () =>
    (await agent.status()).health.alarms.some(
      ({ alarm, cause }) =>
        alarm === "outbox.quarantine.gw_up_room" && cause.includes("GW_UP/room"),
    ),
  );

  await agent.kill();
  await agent.start();
  const operate = async (...words: string[]): Promise<string> =>
    (await run(process.execPath, [main, "quarantine", ...words, "--config", agent.config])).stdout;
  const { items } = JSON.parse(await operate("list", "--json"));
  const room = items.filter(({ topic }: { topic: string }) => topic === "GW_UP/room");
  expect(room.length).toBe(50);
  expect(room[0]).toMatchObject({ lane: "telemetry", scope: "topic", bytes: 1 });

  await first.kill("SIGTERM");
  await writeFile(join(dir, "cloud.toml"), service(["GW_DOWN", "GW_UP"]), { mode: 0o600 });
  const second = await spawnCloud(dir, ["--mqtt-port", String(first.mqttPort)]);
  const clientId = "GID_demo@@@witness";
  const witness = await connectAsync(`mqtt://127.0.0.1:${second.mqttPort}`, {
    ...{ clientId, clean: true, reconnectPeriod: 0 },
    username: makeConnectUsername({
      ...{ mode: "Signature", accessKey: "AK", instanceId: "mqtt-local" },
    }),
    password: makeConnectPassword("SK", clientId),
  });
  onTestFinished(async () => {
    await witness.endAsync(true);
  });
  const seen: string[] = [];
  witness.on("message", (_topic, payload) => seen.push(payload.toString()));
  await witness.subscribeAsync("GW_UP/room", { qos: 1 });
  expect(await operate("retry", "--all")).toMatch(/^\d+ retried\n$/);
  await waitFor(() => seen.length >= 50, { what: "all of them at the other end" });
  expect(seen).toEqual(texts);
  await waitFor(async () => (await parked()) === 0, { what: "an empty quarantine" });
});
