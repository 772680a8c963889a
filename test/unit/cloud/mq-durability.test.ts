/** What the MQ side said is done survives a power cut and a kill; what is over is gone. */
import { describe, expect, it } from "vitest";
import { MemoryStore } from "../../support/memory-store.ts";
import { bodyOf } from "../../support/mq-client.ts";
import { startMq } from "../../support/mq-cloud.ts";
import { RawClient } from "../../support/raw-client.ts";
import { waitFor } from "../../support/wait-for.ts";

/** Of a group without notices, which would be counted. */
const clientId = "GID_quiet@@@gw-01";

describe.each([
  ["a power cut", (store: MemoryStore) => store.afterPowerCut()],
  ["a kill", (store: MemoryStore) => store.afterKill()],
])("after %s", (_, survivor) => {
  it("what was produced is there, under the id that was answered", async () => {
    const store = new MemoryStore();
    const before = await startMq({}, { store });
    const ids = [await before.mq.produce("GW_UP", "1"), await before.mq.produce("GW_UP", "2")];
    const { mq } = await startMq({}, { store: survivor(store) });
    const messages = await mq.consume("GW_UP", "app");
    expect(messages.map((one) => [one.id, bodyOf(one)])).toEqual([
      [ids[0], "1"],
      [ids[1], "2"],
    ]);
  });

  it("what was published and acknowledged is there, with nobody having read the topic", async () => {
    const store = new MemoryStore();
    const before = await startMq({}, { store });
    const client = await RawClient.connect(before.mqttPort, { clientId });
    await client.publishAcked("GW_UP/a", "1");
    const { mq } = await startMq({}, { store: survivor(store) });
    expect((await mq.consume("GW_UP", "app")).map(bodyOf)).toEqual(["1"]);
  });

  it("what was confirmed does not come again, the rest does at once", async () => {
    const store = new MemoryStore();
    const before = await startMq({}, { store });
    const client = await RawClient.connect(before.mqttPort, { clientId });
    for (let i = 0; i < 20; i++) client.publish("GW_UP/a", `${i}`, { messageId: i + 1 });
    await waitFor(() => client.all("puback").length === 20);
    const messages = await before.mq.consume("GW_UP", "app");
    const even = messages.filter((_, i) => i % 2 === 0).map(({ id }) => id);
    expect(await before.mq.ack("GW_UP", "app", even)).toBe(10);
    const { mq } = await startMq({}, { store: survivor(store) });
    const again = (await mq.consume("GW_UP", "app")).map(bodyOf);
    expect(again).toEqual(messages.filter((_, i) => i % 2 === 1).map(bodyOf));
  });

  it("numbers are not given twice, also when all that had them is gone", async () => {
    const store = new MemoryStore();
    const before = await startMq({}, { store });
    await before.mq.consume("GW_UP", "app");
    const id = await before.mq.produce("GW_UP", "1");
    await before.mq.drain("GW_UP", "app");
    await waitFor(() => store.countOf("cloud_mq_packs") === 0);
    const { mq } = await startMq({}, { store: store.afterKill() });
    expect(await mq.produce("GW_UP", "2")).not.toBe(id);
    expect((await mq.consume("GW_UP", "app")).map(bodyOf)).toEqual(["2"]);
  });
});

describe("one commit", () => {
  it("carries a publish to its mailbox and to the MQ side, and many share it", async () => {
    const store = new MemoryStore();
    const { mqttPort, mq } = await startMq({}, { store });
    await mq.consume("GW_DOWN", "app");
    const sender = await RawClient.connect(mqttPort, { clientId, clean: false });
    const before = { syncs: store.syncs, packs: store.countOf("cloud_mq_packs") };
    let letGo: (() => void) | undefined;
    store.beforeSync = () =>
      new Promise((resolve) => {
        letGo = resolve;
      });
    sender.publish("GW_DOWN/p2p/GID_demo@@@away", "0", { messageId: 1_000 });
    await waitFor(() => letGo !== undefined);
    for (let i = 1; i <= 500; i++) {
      sender.publish("GW_DOWN/p2p/GID_demo@@@away", `${i}`, { messageId: i });
    }
    await sender.ping();
    store.beforeSync = () => Promise.resolve();
    letGo?.();
    await waitFor(() => sender.all("puback").length === 501);
    expect(store.syncs - before.syncs).toBe(2);
    expect(store.countOf("cloud_mq_packs") - before.packs).toBe(2);
    expect((await mq.drain("GW_DOWN", "app")).map(bodyOf)).toEqual(
      Array.from({ length: 501 }, (_, i) => `${i}`),
    );
  });

  it("that fails is answered with 503 or the end of the connection, and nothing is kept", async () => {
    const store = new MemoryStore();
    const { mqttPort, mq, cloud } = await startMq({}, { store });
    await mq.consume("GW_UP", "app");
    store.failCommits(1);
    await expect(mq.produce("GW_UP", "lost")).rejects.toThrow(/answered 503/);
    const client = await RawClient.connect(mqttPort, { clientId });
    store.failCommits(1);
    client.publish("GW_UP/a", "lost");
    await client.untilClosed();
    await mq.produce("GW_UP", "kept");
    expect(cloud.stats.mq.kept).toBe(1);
    expect((await mq.consume("GW_UP", "app")).map(bodyOf)).toEqual(["kept"]);
  });

  it("of a confirmation that fails leaves the messages unconfirmed", async () => {
    const store = new MemoryStore();
    const { mq } = await startMq({}, { store });
    const id = await mq.produce("GW_UP", "1");
    await mq.consume("GW_UP", "app");
    store.failCommits(1);
    await expect(mq.ack("GW_UP", "app", [id])).rejects.toThrow(/answered 503/);
    expect((await mq.consume("GW_UP", "app")).map(bodyOf)).toEqual(["1"]);
    expect(await mq.ack("GW_UP", "app", [id])).toBe(1);
  });
});

describe("a damaged record", () => {
  it("costs its own messages, and the others come", async () => {
    const store = new MemoryStore();
    const before = await startMq({}, { store });
    for (const body of ["1", "2", "3"]) await before.mq.produce("GW_UP", body);
    await before.stop();
    const second = store.afterKill();
    second.damage("cloud_mq_packs", (key) => key.endsWith("2"));
    const { mq } = await startMq({}, { store: second });
    expect((await mq.consume("GW_UP", "app")).map(bodyOf)).toEqual(["1", "3"]);
    // Found while it runs.
    for (const body of ["4", "5"]) await mq.produce("GW_DOWN", body);
    second.damage("cloud_mq_packs", (key) => key.startsWith("GW_DOWN"));
    await mq.produce("GW_DOWN", "6");
    expect((await mq.consume("GW_DOWN", "app")).map(bodyOf)).toEqual(["6"]);
  });
});

describe("topics that no group reads", () => {
  it("hold up their publishers for a tenth of that, and then no more", async () => {
    const store = new MemoryStore();
    const { mqttPort, cloud } = await startMq({}, { store });
    const client = await RawClient.connect(mqttPort, { clientId });
    const publish = (from: number, to: number): void => {
      for (let i = from; i <= to; i++) client.publish("GW_UP/a", "", { messageId: i });
    };
    let letGo: (() => void) | undefined;
    store.beforeSync = () =>
      new Promise((resolve) => {
        letGo = resolve;
      });
    publish(1, 1);
    await waitFor(() => letGo !== undefined);
    await client.ping();
    expect(client.all("puback")).toHaveLength(0);
    store.beforeSync = () => Promise.resolve();
    letGo?.();
    publish(2, 1_000);
    await waitFor(() => client.all("puback").length === 1_000);
    store.beforeSync = () =>
      new Promise((resolve) => {
        letGo = resolve;
      });
    publish(1_001, 1_100);
    await waitFor(() => client.all("puback").length === 1_100);
    store.beforeSync = () => Promise.resolve();
    letGo?.();
    await waitFor(() => cloud.stats.mq.kept === 1_100);
  });

  it("keep a burst of publishes, then so many a second, and the rest is counted", async () => {
    const { mq, mqttPort, cloud, clock } = await startMq({ limits: { mqUnreadPerSecond: 5 } });
    const client = await RawClient.connect(mqttPort, { clientId });
    const flood = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) client.publish("GW_UP/a", "", { qos: 0 });
      await client.ping();
    };
    await flood(10_050);
    expect(cloud.stats.mq).toMatchObject({ kept: 10_000, unread: 50 });
    await clock.advance(2_000);
    await flood(20);
    expect(cloud.stats.mq).toMatchObject({ kept: 10_010, unread: 60 });
    // What is produced is kept in any case, and from the first group on everything is.
    await mq.produce("GW_UP", "produced");
    await mq.consume("GW_UP", "app");
    await flood(30);
    await waitFor(() => cloud.stats.mq.kept === 10_041);
  });
});
