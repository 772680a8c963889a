import { describe, expect, it } from "vitest";
import { startCloud } from "../../support/cloud.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { MemoryStore } from "../../support/memory-store.ts";
import { RawClient } from "../../support/raw-client.ts";
import { waitFor } from "../../support/wait-for.ts";

const device = "GID_demo@@@gw-01";
const senderId = "GID_demo@@@console";
const toDevice = `GW_DOWN/p2p/${device}`;

/** A disk that syncs only when the test says so. */
function heldDisk() {
  const store = new MemoryStore();
  let held: (() => void)[] = [];
  let holding = false;
  store.beforeSync = () =>
    holding ? new Promise((resolve) => held.push(resolve)) : Promise.resolve();
  return {
    store,
    hold: () => {
      holding = true;
    },
    letGo: () => {
      holding = false;
      for (const resolve of held) resolve();
      held = [];
    },
    get waiting() {
      return held.length;
    },
  };
}

describe("what was acknowledged", () => {
  it("P2P to a client that is offline is there after a power cut", async () => {
    const store = new MemoryStore();
    const before = await startCloud({}, { store });
    const sender = await RawClient.connect(before.mqttPort, { clientId: senderId, clean: false });
    await sender.publishAcked(toDevice, "command");
    const after = await startCloud({}, { store: store.afterPowerCut() });
    const target = await RawClient.connect(after.mqttPort, { clientId: device });
    await target.untilMessages(1);
    expect(target.payloads).toEqual(["command"]);
  });

  it("is there behind any number of damaged records, and stays when more comes", async () => {
    const store = new MemoryStore();
    const before = await startCloud({}, { store });
    const sender = await RawClient.connect(before.mqttPort, { clientId: senderId, clean: false });
    for (let i = 1; i <= 1_102; i++) sender.publish(toDevice, `m${i}`, { messageId: i });
    await waitFor(() => sender.all("puback").length === 1_102, { what: "all PUBACKs" });
    const damage = Array.from({ length: 1_100 }, (_, i) => ({
      table: "cloud_messages",
      key: String(i + 2).padStart(15, "0"),
      value: Buffer.from("{}"),
    }));
    await store.commit(damage, { sync: true });
    await before.stop();
    const after = await startCloud({}, { store });
    const again = await RawClient.connect(after.mqttPort, { clientId: senderId, clean: false });
    await again.publishAcked(toDevice, "later");
    const target = await RawClient.connect(after.mqttPort, { clientId: device });
    await target.untilMessages(3);
    expect(target.payloads).toEqual(["m1", "m1102", "later"]);
    await waitFor(() => after.cloud.stats.waiting === 0);
  });

  it("sessions and subscriptions are, and what was unsubscribed is not", async () => {
    const store = new MemoryStore();
    const before = await startCloud({}, { store });
    const client = await RawClient.connect(before.mqttPort, { clientId: device, clean: false });
    await client.subscribe("GW_UP/kept");
    await client.subscribe("GW_UP/left");
    client.send({ cmd: "unsubscribe", messageId: 9, unsubscriptions: ["GW_UP/left"] });
    await client.next("unsuback");
    const after = await startCloud({}, { store: store.afterPowerCut() });
    const sender = await RawClient.connect(after.mqttPort, { clientId: senderId });
    await sender.publishAcked("GW_UP/left", "no");
    await sender.publishAcked("GW_UP/kept", "yes");
    const again = await RawClient.connect(after.mqttPort, { clientId: device, clean: false });
    expect(again.packets[0]).toMatchObject({ sessionPresent: true });
    await again.untilMessages(1);
    await again.ping();
    expect(again.payloads).toEqual(["yes"]);
  });

  it("a message pushed to a client that has not acknowledged it is", async () => {
    const store = new MemoryStore();
    const before = await startCloud({}, { store });
    const target = await RawClient.connect(before.mqttPort, { clientId: device, clean: false });
    target.autoAck = false;
    await target.subscribe("GW_UP/#");
    const sender = await RawClient.connect(before.mqttPort, { clientId: senderId });
    await sender.publishAcked("GW_UP/a", "unacknowledged");
    await target.untilMessages(1);
    const after = await startCloud({}, { store: store.afterPowerCut() });
    const again = await RawClient.connect(after.mqttPort, { clientId: device, clean: false });
    await again.untilMessages(1);
    expect(again.payloads).toEqual(["unacknowledged"]);
  });

  it("what its receiver acknowledged is gone, also after a restart", async () => {
    const store = new MemoryStore();
    const before = await startCloud({}, { store });
    const sender = await RawClient.connect(before.mqttPort, { clientId: senderId, clean: false });
    const target = await RawClient.connect(before.mqttPort, { clientId: device });
    await sender.publishAcked(toDevice, "command");
    await target.untilMessages(1);
    await waitFor(() => before.cloud.stats.waiting === 0);
    await before.stop();
    const after = await startCloud({}, { store: store.afterKill() });
    expect(after.cloud.stats.waiting).toBe(0);
  });
});

describe("acknowledgements", () => {
  it("wait for the disk, and leave in the order of their packets [MQTT-4.6.0-2]", async () => {
    const disk = heldDisk();
    const { mqttPort } = await startCloud({}, { store: disk.store });
    const sender = await RawClient.connect(mqttPort, { clientId: senderId, clean: false });
    disk.hold();
    sender.publish(toDevice, "kept", { messageId: 1 });
    sender.publish("GW_UP/nobody", "not kept", { messageId: 2 });
    await sender.ping();
    expect(sender.all("puback")).toEqual([]);
    disk.letGo();
    await waitFor(() => sender.all("puback").length === 2);
    expect(sender.all("puback").map(({ messageId }) => messageId)).toEqual([1, 2]);
  });

  it("of many messages share one sync", async () => {
    const disk = heldDisk();
    const { mqttPort, cloud } = await startCloud({}, { store: disk.store });
    const sender = await RawClient.connect(mqttPort, { clientId: senderId, clean: false });
    const syncs = disk.store.syncs;
    disk.hold();
    for (let i = 1; i <= 500; i++) sender.publish(toDevice, `${i}`, { messageId: i });
    await waitFor(() => cloud.stats.waiting === 500);
    disk.letGo();
    await waitFor(() => sender.all("puback").length === 500);
    expect(disk.store.syncs - syncs).toBeLessThanOrEqual(2);
  });

  it("do not come when the disk fails: the sender is disconnected and nothing is kept", async () => {
    const store = new MemoryStore();
    const { mqttPort, cloud } = await startCloud({}, { store });
    const sender = await RawClient.connect(mqttPort, { clientId: senderId, clean: false });
    store.failCommits(1);
    sender.publish(toDevice, "lost?");
    await sender.untilClosed();
    expect(sender.all("puback")).toEqual([]);
    expect(cloud.stats.waiting).toBe(0);
    const again = await RawClient.connect(mqttPort, { clientId: senderId, clean: false });
    await again.publishAcked(toDevice, "lost?");
    expect(cloud.stats.waiting).toBe(1);
  });

  it("stop being collected without end: the sender is read no further", async () => {
    const disk = heldDisk();
    const { mqttPort, cloud } = await startCloud({}, { store: disk.store });
    const sender = await RawClient.connect(mqttPort, { clientId: senderId, clean: false });
    disk.hold();
    for (let i = 1; i <= 20_000; i++) {
      sender.publish(toDevice, "x".repeat(500), { messageId: i });
    }
    await waitFor(() => cloud.stats.waiting > 1_000);
    const other = await RawClient.connect(mqttPort, { clientId: "GID_demo@@@other" });
    for (let i = 0; i < 20; i++) await other.ping();
    expect(cloud.stats.waiting).toBeLessThan(1_200);
    disk.letGo();
    await waitFor(() => sender.all("puback").length === 20_000);
  });

  it("that wait for the disk cost nobody the connection: what is not read is not missed", async () => {
    const disk = heldDisk();
    const clock = new FakeClock();
    const { mqttPort, cloud } = await startCloud({}, { store: disk.store, clock });
    const connect = { clientId: senderId, clean: false, keepalive: 10 };
    const sender = await RawClient.connect(mqttPort, connect);
    disk.hold();
    for (let i = 1; i <= 2_000; i++) sender.publish(toDevice, "x", { messageId: i });
    await waitFor(() => cloud.stats.waiting > 1_000, { what: "the reading to be held" });
    await clock.advance(100_000);
    expect(sender.closed).toBe(false);
    disk.letGo();
    await waitFor(() => sender.all("puback").length === 2_000, { what: "all PUBACKs" });
    await clock.advance(15_000);
    await sender.untilClosed();
  });

  it("what a client sent before it closed its side is taken, though the disk was slow", async () => {
    const disk = heldDisk();
    const { mqttPort, cloud } = await startCloud({}, { store: disk.store });
    disk.hold();
    const sender = await RawClient.open(mqttPort);
    sender.sendConnect({ clientId: senderId, clean: false });
    for (let i = 1; i <= 3; i++) sender.publish(toDevice, `${i}`, { messageId: i });
    sender.socket.end();
    await waitFor(() => disk.waiting === 1);
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
    disk.letGo();
    await sender.untilClosed();
    await waitFor(() => cloud.stats.connections === 0);
    expect(cloud.stats).toMatchObject({ accepted: 3, waiting: 3 });
  });

  it("a message acknowledged before its write began is never written", async () => {
    const disk = heldDisk();
    const { mqttPort, cloud } = await startCloud({}, { store: disk.store });
    const sender = await RawClient.connect(mqttPort, { clientId: senderId, clean: false });
    const target = await RawClient.connect(mqttPort, { clientId: device });
    disk.hold();
    sender.publish("GW_DOWN/p2p/GID_demo@@@away", "holds the disk", { messageId: 1 });
    await waitFor(() => disk.waiting === 1);
    sender.publish(toDevice, "quick", { messageId: 2 });
    await target.untilMessages(1);
    await waitFor(() => cloud.stats.waiting === 1);
    const tables = new Set<string>();
    const commit = disk.store.commit.bind(disk.store);
    disk.store.commit = (writes, options) => {
      for (const { table } of writes) tables.add(table);
      return commit(writes, options);
    };
    disk.letGo();
    await waitFor(() => sender.all("puback").length === 2);
    // For the MQ side, whose consumers have not had it.
    expect([...tables]).toEqual(["cloud_mq_packs"]);
  });
});
