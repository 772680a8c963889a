/**
 * The outbox over the real database and our own service, which closes the connection on a publish
 * under a parent topic that does not exist (lmq-protocol 1.2).
 */
import { join } from "node:path";
import { connectAsync, type MqttClient } from "mqtt";
import { expect, onTestFinished, test } from "vitest";
import { Session, signatureAuthenticator } from "../../agent/connection/connection.ts";
import { silentLog } from "../../agent/core/log.ts";
import { SystemClock } from "../../agent/core/system-clock.ts";
import { SystemRandom } from "../../agent/core/system-random.ts";
import { DurableOutbox, Forwarder } from "../../agent/outbox/outbox.ts";
import {
  makeConnectPassword,
  makeConnectUsername,
} from "../../agent/protocol/connect-signature.ts";
import { DatabaseStore, FileVolatileLog, openLevel } from "../../agent/store/store.ts";
import { startCloud } from "../support/cloud.ts";
import { SeededRandom } from "../support/seeded-random.ts";
import { startTally } from "../support/tally.ts";
import { tempDir } from "../support/temp-dir.ts";
import { waitFor } from "../support/wait-for.ts";

const DEVICE = "GID_demo@@@gw-01";
const never = new AbortController().signal;
const clock = new SystemClock();
const random = new SystemRandom();

async function startDevice(dir: string, port: number) {
  const store = new DatabaseStore(
    { dir: join(dir, "state") },
    { openDatabase: openLevel, random, log: silentLog },
  );
  await store.start();
  const volatileLog = new FileVolatileLog(
    { dir: join(dir, "run"), identity: () => `${store.id} one boot` },
    () => undefined,
  );
  const lane = { maxMessages: 100_000, maxBytes: 1e9, ttlMs: 0, whenFull: "refuse" } as const;
  const outbox = new DurableOutbox(
    {
      lanes: { telemetry: { ...lane, priority: 5 } },
      persistDelayMs: 100,
      settleEvery: 4_096,
      checkTopic: () => undefined,
      bootId: "one boot",
    },
    { store, volatileLog, clock, random, log: silentLog },
  );
  await outbox.start();
  const session = new Session(
    {
      clientId: DEVICE,
      endpoints: [`mqtt://127.0.0.1:${port}`],
      profile: "lmq",
      keepaliveS: 90,
      cleanSession: false,
      connectTimeoutMs: 10_000,
      ackTimeoutMs: 30_000,
      reconnect: { minMs: 5, maxMs: 20, refusedMinMs: 100, takeoverMinMs: 100 },
      subscriptions: [],
      inboundBound: { messages: 1_000, bytes: 1_000_000 },
      maxPayloadBytes: 65_536,
    },
    {
      clock,
      random,
      log: silentLog,
      authenticator: signatureAuthenticator({
        ...{ accessKey: "AK", secret: () => "SK", instanceId: "mqtt-local", clientId: DEVICE },
      }),
    },
  );
  let connections = 0;
  const forwarder = new Forwarder(
    { window: 64, maxRate: 0, ackTimeoutMs: 30_000 },
    {
      outbox,
      connected: async (signal) => {
        const publisher = await session.connected(signal);
        if (publisher) connections++;
        return publisher;
      },
      clock,
      log: silentLog,
    },
  );
  const stop = async (): Promise<void> => {
    await forwarder.stop();
    await session.stop(AbortSignal.timeout(2_000));
    await outbox.stop(AbortSignal.timeout(5_000));
    await store.stop();
  };
  onTestFinished(stop);
  const goOnline = async (): Promise<void> => {
    await session.start(never);
    await forwarder.start();
  };
  return { outbox, goOnline, stop, connections: () => connections };
}

async function witness(port: number): Promise<MqttClient> {
  const clientId = "GID_demo@@@witness";
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, {
    ...{ clientId, clean: true, reconnectPeriod: 0 },
    username: makeConnectUsername({
      ...{ mode: "Signature", accessKey: "AK", instanceId: "mqtt-local" },
    }),
    password: makeConnectPassword("SK", clientId),
  });
  onTestFinished(async () => {
    await client.endAsync(true);
  });
  return client;
}

test.each([
  ["mixed at random", 1],
  ["mixed at random, another way", 2],
])("10,000 messages to a forbidden topic among 10,000 good ones, %s", async (_, seed) => {
  const { mqttPort } = await startCloud();
  const dir = await tempDir();
  const device = await startDevice(dir, mqttPort);
  const tally = await startTally(await witness(mqttPort), "GW_UP/#");
  const mix = new SeededRandom(seed);
  const left = { good: 10_000, bad: 10_000 };
  const good: string[] = [];
  const bad: string[] = [];
  const puts: Promise<unknown>[] = [];
  for (let n = 1; n <= 20_000; n++) {
    const isGood = mix.int(left.good + left.bad) < left.good;
    left[isGood ? "good" : "bad"]--;
    (isGood ? good : bad).push(String(n));
    const topic = isGood ? "GW_UP/room/1" : "GW_FORBIDDEN/room/1";
    const message = { topic, payload: Buffer.from(String(n)), lane: "telemetry" };
    puts.push(device.outbox.put(message));
  }
  const receipts = (await Promise.all(puts)) as { readonly id: string }[];
  await device.goOnline();
  await waitFor(() => tally.seen.size === 10_000 && device.outbox.stats().quarantined === 10_000, {
    what: "the good ones at the other end and the others in quarantine",
  });
  process.stdout.write(
    `10,000 to a forbidden topic among 10,000 good ones: ${device.connections()} connections, ` +
      `${tally.seen.size} good ones delivered, ${tally.outOfOrder} out of order, ` +
      `${device.outbox.stats().quarantined} in quarantine\n`,
  );
  expect(device.connections()).toBeLessThanOrEqual(10);
  expect([...tally.seen]).toEqual(good); // All of them, in the order of their puts.
  expect(tally.outOfOrder).toBe(0);

  // A new process finds all of them where they were, in order.
  await device.stop();
  const next = await startDevice(dir, mqttPort);
  expect(next.outbox.stats().quarantined).toBe(10_000);
  const ids: string[] = [];
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page = next.outbox.quarantine.list(cursor, 1_000);
    ids.push(...page.items.map(({ id }) => id));
    cursor = page.next;
  }
  expect(ids).toEqual(bad.map((text) => receipts[Number(text) - 1]?.id));
});
