/** Offline delivery over the death of the service, with the real store (lmq-protocol 6). */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { spawnCloud } from "../../support/cloud-process.ts";
import { RawClient } from "../../support/raw-client.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";

const device = "GID_demo@@@gw-01";
const toDevice = `GW_DOWN/p2p/${device}`;

async function dataFolder(timings: string): Promise<string> {
  const dir = await tempDir();
  const toml = `[[accounts]]
access_key = "AK"
secret = "SK"
[instance]
groups = ["GID_demo"]
[[instance.topics]]
name = "GW_DOWN"
[timings]
${timings}
`;
  await writeFile(join(dir, "cloud.toml"), toml, { mode: 0o600 });
  return dir;
}

async function send(port: number, count: number, clean: boolean): Promise<void> {
  const sender = await RawClient.connect(port, { clientId: `GID_demo@@@sender-${clean}`, clean });
  for (let i = 1; i <= count; i++) sender.publish(toDevice, `m${i}`, { messageId: i });
  await waitFor(() => sender.all("puback").length === count, { what: "all PUBACKs" });
}

it("of 95 messages none is lost when the service is killed between two batches", async () => {
  // The interval is longer than the test: the second batch can only come from the next service.
  const dir = await dataFolder("offline_interval_ms = 600000\nack_timeout_ms = 600000");
  const first = await spawnCloud(dir);
  await send(first.mqttPort, 5, true);
  await send(first.mqttPort, 95, false);
  const before = await RawClient.connect(first.mqttPort, { clientId: device });
  await before.untilMessages(30);
  await before.ping();
  expect(before.payloads).toEqual(Array.from({ length: 30 }, (_, i) => `m${i + 1}`));
  expect(await first.kill("SIGKILL")).toBe("SIGKILL");

  const file = join(dir, "cloud.toml");
  const text = await readFile(file, "utf8");
  await writeFile(file, text.replace("offline_interval_ms = 600000", "offline_interval_ms = 50"));
  const second = await spawnCloud(dir);
  const after = await RawClient.connect(second.mqttPort, { clientId: device });
  const received = (): Set<string> => new Set([...before.payloads, ...after.payloads]);
  await waitFor(() => received().size === 95, { what: "the other 65" });
  // What was acknowledged just before the kill may come once more, and nothing else.
  expect(after.messages.length).toBeLessThanOrEqual(95);
  expect(after.payloads.slice(-65)).toEqual(Array.from({ length: 65 }, (_, i) => `m${i + 31}`));
});

it("what was delivered and acknowledged is gone, also from the disk of the next service", async () => {
  const dir = await dataFolder("offline_interval_ms = 50");
  const first = await spawnCloud(dir);
  await send(first.mqttPort, 40, false);
  const target = await RawClient.connect(first.mqttPort, { clientId: device });
  await target.untilMessages(40);
  await target.disconnect();
  expect(await first.kill("SIGTERM")).toBe(0);
  const second = await spawnCloud(dir);
  const again = await RawClient.connect(second.mqttPort, { clientId: device });
  await again.ping();
  await again.publishAcked(toDevice, "new");
  await again.untilMessages(1);
  expect(again.payloads).toEqual(["new"]);
});
