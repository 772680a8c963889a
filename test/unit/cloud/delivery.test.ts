import { describe, expect, it } from "vitest";
import { startCloud } from "../../support/cloud.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { RawClient } from "../../support/raw-client.ts";
import { waitFor } from "../../support/wait-for.ts";

const device = "GID_demo@@@gw-01";
const console_ = "GID_demo@@@console";
const toDevice = `GW_DOWN/p2p/${device}`;

async function sendMany(client: RawClient, topic: string, count: number): Promise<void> {
  for (let i = 1; i <= count; i++) client.publish(topic, `m${i}`, { messageId: i });
  await waitFor(() => client.all("puback").length >= count, { what: `${count} PUBACKs` });
}

describe("subscriptions", () => {
  it.each([
    [0, 0, 0],
    [1, 0, 0],
    [1, 1, 1],
    [2, 1, 1],
    [2, 2, 2],
    [1, 2, 1],
  ] as const)(
    "published with QoS %i, granted %i: delivered with %i",
    async (sent, granted, got) => {
      const { mqttPort } = await startCloud();
      const subscriber = await RawClient.connect(mqttPort, { clientId: device });
      expect(await subscriber.subscribe("GW_UP/+/temp", granted)).toEqual([granted]);
      const sender = await RawClient.connect(mqttPort, { clientId: console_ });
      sender.publish("GW_UP/a/temp", "21", { qos: sent, ...(sent === 0 && { messageId: 0 }) });
      const [message] = await subscriber.untilMessages(1);
      expect(message).toMatchObject({ topic: "GW_UP/a/temp", qos: got, dup: false, retain: false });
      if (sent === 1) await sender.next("puback");
      if (sent === 2) await sender.next("pubcomp");
      await subscriber.ping();
      expect(subscriber.payloads).toEqual(["21"]);
    },
  );

  it("routes a QoS 2 message once although its PUBLISH comes twice", async () => {
    const { mqttPort } = await startCloud();
    const subscriber = await RawClient.connect(mqttPort, { clientId: device });
    await subscriber.subscribe("GW_UP/#", 0);
    const sender = await RawClient.connect(mqttPort, { clientId: console_ });
    sender.autoAck = false;
    sender.publish("GW_UP/a", "once", { qos: 2, messageId: 9 });
    sender.publish("GW_UP/a", "once", { qos: 2, messageId: 9, dup: true });
    await waitFor(() => sender.all("pubrec").length === 2);
    sender.send({ cmd: "pubrel", messageId: 9 });
    await sender.next("pubcomp");
    await subscriber.ping();
    expect(subscriber.payloads).toEqual(["once"]);
  });

  it("shows P2P to its target alone, whatever others subscribed to", async () => {
    const { mqttPort } = await startCloud();
    const spy = await RawClient.connect(mqttPort, { clientId: "GID_demo@@@spy" });
    await spy.subscribe("GW_DOWN/#");
    await spy.subscribe(toDevice);
    const target = await RawClient.connect(mqttPort, { clientId: device });
    await target.subscribe("GW_DOWN/#");
    const sender = await RawClient.connect(mqttPort, { clientId: console_ });
    await sender.publishAcked(toDevice, "for you");
    await target.untilMessages(1);
    await spy.ping();
    await target.ping();
    expect(target.payloads).toEqual(["for you"]);
    expect(target.messages[0]?.topic).toBe(toDevice);
    expect(spy.payloads).toEqual([]);
  });

  it("answers the 31st filter with 0x80, and the others keep working", async () => {
    const { mqttPort } = await startCloud();
    const client = await RawClient.connect(mqttPort, { clientId: device });
    for (let i = 1; i <= 30; i++) expect(await client.subscribe(`GW_UP/${i}`)).toEqual([1]);
    expect(await client.subscribe("GW_UP/31")).toEqual([0x80]);
    expect(await client.subscribe("GW_UP/30", 0)).toEqual([0]);
    const sender = await RawClient.connect(mqttPort, { clientId: console_ });
    await sender.publishAcked("GW_UP/31", "no", 1);
    await sender.publishAcked("GW_UP/1", "yes", 2);
    await client.untilMessages(1);
    expect(client.payloads).toEqual(["yes"]);
    client.send({ cmd: "unsubscribe", messageId: 8, unsubscriptions: ["GW_UP/1"] });
    await client.next("unsuback");
    expect(await client.subscribe("GW_UP/31")).toEqual([1]);
  });

  it("clears the retain flag, stores nothing and never sends a will", async () => {
    const { mqttPort } = await startCloud();
    const early = await RawClient.connect(mqttPort, { clientId: device });
    await early.subscribe("GW_UP/#");
    const will = { topic: "GW_UP/will", payload: "gone" };
    const sender = await RawClient.connect(mqttPort, { clientId: console_, will });
    sender.publish("GW_UP/state", "on", { retain: true });
    await sender.next("puback");
    await sender.drop();
    const late = await RawClient.connect(mqttPort, { clientId: "GID_demo@@@late" });
    await late.subscribe("GW_UP/#");
    await late.ping();
    await early.ping();
    expect(late.payloads).toEqual([]);
    expect(early.messages.map(({ payload, retain }) => [payload.toString(), retain])).toEqual([
      ["on", false],
    ]);
  });
});

describe("offline messages", () => {
  it("arrive as 30, 30, 30, 5, one batch each 5 s, from a persistent sender", async () => {
    const clock = new FakeClock();
    const { mqttPort } = await startCloud({}, { clock });
    const sender = await RawClient.connect(mqttPort, { clientId: console_, clean: false });
    await sendMany(sender, toDevice, 95);
    const target = await RawClient.connect(mqttPort, { clientId: device });
    await target.untilMessages(30);
    for (const expected of [30, 60, 90]) {
      await clock.advance(4_999);
      await target.ping();
      expect(target.messages).toHaveLength(expected);
      await clock.advance(1);
      await target.untilMessages(Math.min(95, expected + 30));
    }
    await target.ping();
    await clock.advance(60_000);
    await target.ping();
    expect(target.payloads).toEqual(Array.from({ length: 95 }, (_, i) => `m${i + 1}`));
  });

  it("are not kept for a P2P sender with a clean session", async () => {
    const { mqttPort, cloud } = await startCloud();
    const sender = await RawClient.connect(mqttPort, { clientId: console_, clean: true });
    await sendMany(sender, toDevice, 5);
    expect(cloud.stats.waiting).toBe(0);
  });

  it("wait for a client id of an existing group alone", async () => {
    const { mqttPort, cloud } = await startCloud();
    const sender = await RawClient.connect(mqttPort, { clientId: console_, clean: false });
    await sender.publishAcked("GW_DOWN/p2p/GID_unknown@@@x", "nobody");
    await sender.publishAcked("GW_DOWN/p2p/nonsense", "nobody");
    await sender.publishAcked("GW_DOWN/p2p", "nobody");
    expect(cloud.stats.waiting).toBe(0);
    await sender.publishAcked("GW_DOWN/p2p/GID_other@@@x", "somebody");
    expect(cloud.stats.waiting).toBe(1);
  });

  it("by subscription: QoS 1 of a persistent session, and of nothing else", async () => {
    const { mqttPort } = await startCloud();
    const subscriber = await RawClient.connect(mqttPort, { clientId: device, clean: false });
    await subscriber.subscribe("GW_UP/one", 1);
    await subscriber.subscribe("GW_UP/zero", 0);
    await subscriber.subscribe("GW_UP/two", 2);
    await subscriber.disconnect();
    const sender = await RawClient.connect(mqttPort, { clientId: console_ });
    for (const topic of ["one", "zero", "two"]) {
      await sender.publishAcked(`GW_UP/${topic}`, topic);
    }
    const again = await RawClient.connect(mqttPort, { clientId: device, clean: false });
    expect(again.packets[0]).toMatchObject({ cmd: "connack", sessionPresent: true });
    await again.untilMessages(1);
    await again.ping();
    expect(again.payloads).toEqual(["one"]);
  });

  it("by subscription are gone after a clean connect, P2P is not", async () => {
    const { mqttPort } = await startCloud();
    const subscriber = await RawClient.connect(mqttPort, { clientId: device, clean: false });
    await subscriber.subscribe("GW_UP/one", 1);
    await subscriber.disconnect();
    const sender = await RawClient.connect(mqttPort, { clientId: console_, clean: false });
    await sender.publishAcked("GW_UP/one", "subscribed");
    await sender.publishAcked(toDevice, "direct");
    const again = await RawClient.connect(mqttPort, { clientId: device, clean: true });
    expect(again.packets[0]).toMatchObject({ sessionPresent: false });
    await again.untilMessages(1);
    await again.ping();
    expect(again.payloads).toEqual(["direct"]);
  });

  it("pushed and unacknowledged, are seen by a reconnect only after the ack timeout", async () => {
    const clock = new FakeClock();
    const { mqttPort } = await startCloud({}, { clock });
    const sender = await RawClient.connect(mqttPort, { clientId: console_, clean: false });
    const target = await RawClient.connect(mqttPort, { clientId: device });
    target.autoAck = false;
    await sender.publishAcked(toDevice, "command");
    await target.untilMessages(1);
    await target.drop();
    const again = await RawClient.connect(mqttPort, { clientId: device });
    await clock.advance(4_000);
    await again.ping();
    expect(again.payloads).toEqual([]);
    await clock.advance(1_000);
    const [message] = await again.untilMessages(1);
    expect(message).toMatchObject({ dup: true });
  });

  it("are removed from the oldest on over the limit, and all after three days", async () => {
    const clock = new FakeClock();
    const { mqttPort, cloud } = await startCloud({ limits: { offlinePerInstance: 10 } }, { clock });
    const sender = await RawClient.connect(mqttPort, { clientId: console_, clean: false });
    await sendMany(sender, toDevice, 25);
    await waitFor(() => cloud.stats.waiting === 10);
    await clock.advance(259_200_000 - 120_000);
    expect(cloud.stats.waiting).toBe(10);
    const target = await RawClient.connect(mqttPort, { clientId: device });
    await target.untilMessages(10);
    expect(target.payloads[0]).toBe("m16");
    await target.disconnect();
    await sendMany(sender, toDevice, 25 + 3);
    await clock.advance(259_200_000 + 120_000);
    await waitFor(() => cloud.stats.waiting === 0);
    expect(cloud.stats.expired).toBeGreaterThan(0);
  });
});

describe("repeats", () => {
  it("come after each ack timeout with the same packet id, up to the retry limit", async () => {
    const clock = new FakeClock();
    const timings = { retryLimit: 4 };
    const { mqttPort, cloud } = await startCloud({ timings }, { clock });
    const sender = await RawClient.connect(mqttPort, { clientId: console_, clean: false });
    const target = await RawClient.connect(mqttPort, { clientId: device });
    target.autoAck = false;
    await sender.publishAcked(toDevice, "command");
    for (let pushes = 1; pushes <= 4; pushes++) {
      await target.untilMessages(pushes);
      await clock.advance(5_000);
    }
    await clock.advance(60_000);
    await target.ping();
    expect(target.messages.map(({ dup }) => dup)).toEqual([false, true, true, true]);
    expect(new Set(target.messages.map(({ messageId }) => messageId)).size).toBe(1);
    expect(cloud.stats).toMatchObject({ waiting: 0, exhausted: 1 });
  });

  it("do not come for what was acknowledged, and a PUBACK for nothing is ignored", async () => {
    const clock = new FakeClock();
    const { mqttPort, cloud } = await startCloud({}, { clock });
    const sender = await RawClient.connect(mqttPort, { clientId: console_, clean: false });
    const target = await RawClient.connect(mqttPort, { clientId: device });
    await sender.publishAcked(toDevice, "command");
    await target.untilMessages(1);
    target.send({ cmd: "puback", messageId: 4711 });
    await waitFor(() => cloud.stats.waiting === 0);
    await clock.advance(30_000);
    await target.ping();
    expect(target.messages).toHaveLength(1);
  });
});

describe("a slow reader", () => {
  it("loses nothing that is kept, holds bounded memory, and others go on", async () => {
    const limits = { inFlight: 20, liveMessages: 50 };
    const timings = { offlineIntervalMs: 5 };
    const { mqttPort, cloud } = await startCloud({ limits, timings });
    const target = await RawClient.connect(mqttPort, { clientId: device });
    target.socket.pause();
    const sender = await RawClient.connect(mqttPort, { clientId: console_, clean: false });
    const big = "x".repeat(20_000);
    for (let i = 1; i <= 400; i++) sender.publish(toDevice, `${i} ${big}`, { messageId: i });
    await waitFor(() => sender.all("puback").length === 400);
    expect(cloud.stats.bufferedBytes).toBeLessThan(71 * 20_400);
    target.socket.resume();
    await waitFor(() => new Set(target.payloads).size === 400);
    await waitFor(() => cloud.stats.waiting === 0);
  });

  it("of QoS 0 loses messages instead of piling them up", async () => {
    const { mqttPort, cloud } = await startCloud({ limits: { liveBytes: 1_000_000 } });
    const target = await RawClient.connect(mqttPort, { clientId: device });
    await target.subscribe("GW_UP/#", 0);
    target.socket.pause();
    const sender = await RawClient.connect(mqttPort, { clientId: console_ });
    const payload = Buffer.alloc(60_000);
    for (let i = 0; i < 300; i++) sender.publish("GW_UP/a", payload, { qos: 0 });
    await sender.ping();
    expect(cloud.stats.bufferedBytes).toBeLessThanOrEqual(1_000_000);
    expect(cloud.stats.dropped).toBeGreaterThan(0);
  });
});
