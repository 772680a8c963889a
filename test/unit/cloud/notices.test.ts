/** Presence notices as the service gives them: lmq-protocol 7.3. */
import { describe, expect, it } from "vitest";
import type { PresenceEvent } from "../../../cloud/operator/operator.ts";
import { MemoryStore } from "../../support/memory-store.ts";
import { bodyOf, type MqClient } from "../../support/mq-client.ts";
import { startMq } from "../../support/mq-cloud.ts";
import { RawClient } from "../../support/raw-client.ts";
import { waitFor } from "../../support/wait-for.ts";

const clientId = "GID_demo@@@gw-01";
const topic = "GID_demo_MQTT";

type Notice = PresenceEvent & { readonly clientIp: string; readonly tag: string };

/** Waits for `count` notices and confirms them. */
async function notices(mq: MqClient, count: number): Promise<Notice[]> {
  const all: Notice[] = [];
  await waitFor(async () => {
    for (const message of await mq.drain(topic, "watch")) {
      all.push({ ...(JSON.parse(bodyOf(message)) as Notice), tag: message.tag });
    }
    return all.length >= count;
  });
  return all;
}

const types = (all: readonly Notice[]): string[] => all.map(({ eventType }) => eventType);

describe("presence notices", () => {
  it("a clean end gives connect, disconnect and tcpclean of one channel, with the tag", async () => {
    const { mq, mqttPort, clock } = await startMq();
    const client = await RawClient.connect(mqttPort, { clientId });
    const port = client.socket.localPort;
    await client.disconnect();
    const all = await notices(mq, 3);
    const { channelId } = all[0] as Notice;
    expect(channelId).toMatch(/^[0-9a-f]{32}$/);
    expect(all).toEqual(
      ["connect", "disconnect", "tcpclean"].map((eventType) => ({
        clientId,
        time: clock.wallMs(),
        eventType,
        channelId,
        clientIp: `127.0.0.1:${port}`,
        tag: eventType,
      })),
    );
  });

  it("a crash gives only the tcpclean", async () => {
    const { mq, mqttPort } = await startMq();
    const client = await RawClient.connect(mqttPort, { clientId });
    await client.drop();
    expect(types(await notices(mq, 2))).toEqual(["connect", "tcpclean"]);
  });

  it("a missed keep-alive, too", async () => {
    const { mq, mqttPort, clock } = await startMq();
    await RawClient.connect(mqttPort, { clientId, keepalive: 10 });
    await clock.advance(15_000);
    expect(types(await notices(mq, 2))).toEqual(["connect", "tcpclean"]);
  });

  it("a take-over ends the old channel before the new one is there", async () => {
    const { mq, mqttPort } = await startMq();
    const first = await RawClient.connect(mqttPort, { clientId });
    await RawClient.connect(mqttPort, { clientId });
    await first.untilClosed();
    const all = await notices(mq, 3);
    expect(types(all)).toEqual(["connect", "tcpclean", "connect"]);
    expect(all[1]?.channelId).toBe(all[0]?.channelId);
    expect(all[2]?.channelId).not.toBe(all[0]?.channelId);
  });

  it("a connection that was refused gives none", async () => {
    const { mq, mqttPort } = await startMq();
    const client = await RawClient.open(mqttPort);
    client.sendConnect({ clientId, password: "wrong" });
    await client.untilClosed();
    expect(await mq.consume(topic, "watch")).toEqual([]);
  });

  it("are chosen by tags", async () => {
    const { mq, mqttPort } = await startMq();
    const client = await RawClient.connect(mqttPort, { clientId });
    await client.disconnect();
    await waitFor(async () => (await mq.consume(topic, "counter")).length === 3);
    const chosen = await mq.consume(topic, "watch", { tags: "connect||tcpclean" });
    expect(chosen.map(({ tag }) => tag)).toEqual(["connect", "tcpclean"]);
  });

  it("of a group whose topic was not created are not kept", async () => {
    const store = new MemoryStore();
    const { mq, cloud, mqttPort } = await startMq({}, { store });
    const client = await RawClient.connect(mqttPort, { clientId: "GID_quiet@@@1" });
    await client.disconnect();
    const answer = await mq.ask("GET", "/mq/messages", { topic: "GID_quiet_MQTT", group: "a" });
    expect(answer.status).toBe(404);
    expect(cloud.stats.mq.kept).toBe(0);
    expect(store.countOf("cloud_channels")).toBe(0);
  });

  it.each([
    ["a kill", (store: MemoryStore) => store.afterKill()],
    ["a clean stop", (store: MemoryStore) => store],
  ])("after %s no channel is left open: its tcpclean comes", async (how, survivor) => {
    const store = new MemoryStore();
    const before = await startMq({}, { store });
    await RawClient.connect(before.mqttPort, { clientId });
    const [connect] = await notices(before.mq, 1);
    if (how === "a clean stop") await before.stop();
    const { mq } = await startMq({}, { store: survivor(store), clock: before.clock });
    const [end, ...more] = await notices(mq, 1);
    expect(end).toMatchObject({ eventType: "tcpclean", channelId: connect?.channelId, clientId });
    expect(more).toEqual([]);
  });

  it("a service that was killed twice does not end a channel twice", async () => {
    const store = new MemoryStore();
    const before = await startMq({}, { store });
    await RawClient.connect(before.mqttPort, { clientId });
    await notices(before.mq, 1);
    const second = store.afterKill();
    const { mq } = await startMq({}, { store: second });
    await waitFor(() => second.countOf("cloud_channels") === 0);
    const { mq: third } = await startMq({}, { store: second.afterKill() });
    expect(types(await notices(third, 1))).toEqual(["tcpclean"]);
    expect(await mq.drain(topic, "other")).toHaveLength(1);
  });
});
