/** What waits and how it comes: lmq-protocol 1.2, 1.3, 1.4 and 6, on an injected clock. */
import { describe, expect, it } from "vitest";
import { startCloud } from "../../support/cloud.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { RawClient } from "../../support/raw-client.ts";
import { waitFor } from "../../support/wait-for.ts";

const device = "GID_demo@@@gw-01";
const senderId = "GID_demo@@@console";
const toDevice = `GW_DOWN/p2p/${device}`;

async function withWaiting(count: number, options: Parameters<typeof startCloud>[0] = {}) {
  const clock = new FakeClock();
  const service = await startCloud(options, { clock });
  const sender = await RawClient.connect(service.mqttPort, { clientId: senderId, clean: false });
  for (let i = 1; i <= count; i++) sender.publish(toDevice, `m${i}`, { messageId: i });
  await waitFor(() => sender.all("puback").length === count, { what: `${count} PUBACKs` });
  return { ...service, clock, sender };
}

describe("the manual pull", () => {
  const range = (from: number, to: number): string[] =>
    Array.from(
      { length: Math.abs(to - from) + 1 },
      (_, i) => `m${from < to ? from + i : from - i}`,
    );
  const pull = (client: RawClient, payload: string | object, messageId = 1): Promise<void> =>
    client.publishAcked(
      "$SYS/getOfflineMsg",
      typeof payload === "string" ? payload : JSON.stringify(payload),
      messageId,
    );

  /** Connected, with the first batch of 30 received and 100 more waiting. */
  async function connected(keepalive = 60) {
    const service = await withWaiting(130);
    const client = await RawClient.connect(service.mqttPort, { clientId: device, keepalive });
    await client.untilMessages(30);
    await client.ping();
    client.packets.length = 0;
    return { ...service, client };
  }

  it.each([
    ["ASC", 5, range(31, 35)],
    ["DESC", 5, range(130, 126)],
    ["ASC", 30, range(31, 60)],
    ["DESC", 31, range(130, 101)],
    ["ASC", 1_000, range(31, 60)],
  ])("brings %s up to %i, and values over 30 count as 30", async (pushOrder, maxPushNum, got) => {
    const { client } = await connected();
    await pull(client, { maxPushNum, pushOrder });
    await client.untilMessages(got.length);
    await client.ping();
    expect(client.payloads).toEqual(got);
    expect(client.messages[0]).toMatchObject({ topic: toDevice, qos: 1, dup: false });
  });

  it.each([
    ["0", '{"maxPushNum":0,"pushOrder":"ASC"}'],
    ["less than 0", '{"maxPushNum":-1,"pushOrder":"ASC"}'],
    ["a part of one", '{"maxPushNum":1.5,"pushOrder":"ASC"}'],
    ["a text", '{"maxPushNum":"5","pushOrder":"ASC"}'],
    ["another order", '{"maxPushNum":5,"pushOrder":"asc"}'],
    ["no object", "null"],
    ["no JSON", "{"],
    ["deep JSON", "[".repeat(60_000)],
  ])("of %s is acknowledged and brings nothing", async (_, payload) => {
    const { client } = await connected();
    await pull(client, payload);
    await client.ping();
    expect(client.messages).toEqual([]);
  });

  it("counts at most five times a second", async () => {
    const { client, clock } = await connected();
    for (let i = 1; i <= 8; i++) await pull(client, { maxPushNum: 1, pushOrder: "ASC" }, i);
    await client.ping();
    expect(client.payloads).toEqual(range(31, 35));
    await clock.advance(1_000);
    await pull(client, { maxPushNum: 1, pushOrder: "ASC" });
    await client.untilMessages(6);
  });

  it("begins within the first keep-alive period, and goes on after it", async () => {
    const { client, clock } = await connected();
    await clock.advance(4_000);
    await pull(client, { maxPushNum: 1, pushOrder: "DESC" });
    await client.untilMessages(1);
    expect(client.payloads).toEqual(["m130"]);
    await clock.advance(500); // The next automatic batch is at 5 s.
    for (let i = 0; i < 14; i++) {
      await clock.advance(5_000);
      await client.ping();
    }
    await waitFor(() => new Set(client.payloads).size === 100);
    expect(client.messages).toHaveLength(100);
  });

  it("that begins later is acknowledged and brings nothing: batches come by themselves", async () => {
    const { client, clock, cloud } = await connected(3);
    await clock.advance(3_001);
    await pull(client, { maxPushNum: 5, pushOrder: "ASC" });
    await client.ping();
    expect(client.messages).toEqual([]);
    await clock.advance(1_999);
    await client.untilMessages(30);
    expect(cloud.stats.waiting).toBeGreaterThan(0);
  });
});

describe("redelivery", () => {
  /** Connected, and acknowledging nothing from the first packet on. */
  async function deaf(port: number): Promise<RawClient> {
    const client = await RawClient.open(port);
    client.autoAck = false;
    client.sendConnect({ clientId: device });
    await client.next("connack");
    return client;
  }

  it("counts stand still while the client is away: the first push counts, and so do all", async () => {
    const { mqttPort, clock, cloud } = await withWaiting(1, { timings: { retryLimit: 4 } });
    let pushes = 0;
    for (let life = 1; life <= 2; life++) {
      const client = await deaf(mqttPort);
      await client.untilMessages(1);
      await clock.advance(5_000);
      await client.untilMessages(2);
      pushes += client.messages.length;
      await client.drop();
      // Away for an hour: nothing is pushed, and nothing is counted.
      await clock.advance(3_600_000);
      expect(cloud.stats).toMatchObject({ waiting: 1, exhausted: 0 });
    }
    expect(pushes).toBe(4);
    const last = await deaf(mqttPort);
    await waitFor(() => cloud.stats.exhausted === 1);
    await clock.advance(60_000);
    await last.ping();
    expect(last.messages).toEqual([]);
    expect(cloud.stats).toMatchObject({ waiting: 0, exhausted: 1 });
  });
});

describe("limits of subscriptions", () => {
  it("101 wildcard filters below one parent: the last is answered 0x80, other parents are free", async () => {
    const { mqttPort } = await startCloud();
    const clients: RawClient[] = [];
    for (let i = 0; i < 100; i++) {
      if (i % 25 === 0) {
        clients.push(await RawClient.connect(mqttPort, { clientId: `GID_demo@@@w${i}` }));
      }
      expect(await clients.at(-1)?.subscribe(`GW_UP/${i}/+`)).toEqual([1]);
    }
    const late = await RawClient.connect(mqttPort, { clientId: device });
    expect(await late.subscribe("GW_UP/100/+")).toEqual([0x80]);
    expect(await late.subscribe("GW_UP/99/+")).toEqual([1]); // One of the hundred.
    expect(await late.subscribe("GW_UP/literal")).toEqual([1]);
    expect(await late.subscribe("GW_DOWN/+")).toEqual([1]);
    await late.publishAcked("GW_UP/99/x", "reaches both");
    await late.untilMessages(1);
    await clients.at(-1)?.untilMessages(1);
    await clients[0]?.disconnect();
    expect(await late.subscribe("GW_UP/100/+")).toEqual([1]);
  });

  it("keep-alive over 8 minutes is cut to 8 minutes", async () => {
    const clock = new FakeClock();
    const { mqttPort } = await startCloud({}, { clock });
    const client = await RawClient.connect(mqttPort, { clientId: device, keepalive: 65_535 });
    await clock.advance(719_999);
    expect(client.closed).toBe(false);
    await clock.advance(1);
    await client.untilClosed();
  });
});
