/** The MQ side: surface section 6 and lmq-protocol 8, over HTTP and MQTT. */
import { describe, expect, it } from "vitest";
import { MemoryStore } from "../../support/memory-store.ts";
import { bodyOf, type MqMessage } from "../../support/mq-client.ts";
import { startMq } from "../../support/mq-cloud.ts";
import { RawClient } from "../../support/raw-client.ts";
import { waitFor } from "../../support/wait-for.ts";

const device = "GID_demo@@@gw-01";
const consoleId = "GID_demo@@@console";

const bodies = (messages: readonly MqMessage[]): string[] => messages.map(bodyOf);
const ids = (messages: readonly MqMessage[]): string[] => messages.map(({ id }) => id);

describe("consumer groups", () => {
  it("get what is produced: the id, the tag, the properties and the bytes as they came", async () => {
    const { mq, clock } = await startMq();
    const body = Buffer.from([0, 255, 10, 13, 128]);
    const id = await mq.produce("GW_UP", body, { colour: "blue", qoslevel: "0" }, "T1");
    expect(await mq.consume("GW_UP", "app")).toEqual([
      {
        id,
        topic: "GW_UP",
        tag: "T1",
        properties: { colour: "blue", qoslevel: "0" },
        bodyBase64: body.toString("base64"),
        bornTime: clock.wallMs(),
      },
    ]);
  });

  it("that are new start at the first message still kept, each by itself", async () => {
    const { mq } = await startMq();
    for (const body of ["1", "2", "3"]) await mq.produce("GW_UP", body);
    expect(bodies(await mq.consume("GW_UP", "one"))).toEqual(["1", "2", "3"]);
    expect(bodies(await mq.consume("GW_UP", "two", { max: 2 }))).toEqual(["1", "2"]);
    expect(bodies(await mq.consume("GW_UP", "two"))).toEqual(["3"]);
  });

  it("share their messages among their consumers: what one has in hand no other gets", async () => {
    const { mq } = await startMq();
    for (let i = 0; i < 40; i++) await mq.produce("GW_UP", `${i}`);
    const parts = await Promise.all(
      [1, 2, 3, 4].map(() => mq.consume("GW_UP", "app", { max: 10 })),
    );
    expect(new Set(parts.flat().map(bodyOf)).size).toBe(40);
  });

  it("get again what they did not confirm before its lease ended", async () => {
    const { mq, clock } = await startMq({ timings: { mqLeaseMs: 1_000 } });
    for (const body of ["1", "2", "3"]) await mq.produce("GW_UP", body);
    const first = await mq.consume("GW_UP", "app");
    expect(await mq.ack("GW_UP", "app", [first[1]?.id ?? ""])).toBe(1);
    await clock.advance(999);
    expect(await mq.consume("GW_UP", "app")).toEqual([]);
    await clock.advance(1);
    expect(bodies(await mq.consume("GW_UP", "app"))).toEqual(["1", "3"]);
  });

  it("may confirm late, twice, and what is gone: only the first time counts", async () => {
    const { mq, clock } = await startMq({ timings: { mqLeaseMs: 1_000 } });
    const id = await mq.produce("GW_UP", "1");
    await mq.consume("GW_UP", "app");
    await clock.advance(5_000);
    expect(await mq.ack("GW_UP", "app", [id, id])).toBe(1);
    expect(await mq.ack("GW_UP", "app", [id, "00000000000fffff"])).toBe(0);
    await clock.advance(5_000);
    expect(await mq.consume("GW_UP", "app")).toEqual([]);
  });

  it("choose by tags, and leave what does not match for others of the group", async () => {
    const { mq } = await startMq();
    for (const tag of ["a", "b", "c", "a", "b"]) await mq.produce("GW_UP", tag, {}, tag);
    await mq.produce("GW_UP", "none");
    expect(bodies(await mq.consume("GW_UP", "app", { tags: "a||c" }))).toEqual(["a", "c", "a"]);
    expect(bodies(await mq.consume("GW_UP", "app", { tags: "b", max: 1 }))).toEqual(["b"]);
    expect(bodies(await mq.consume("GW_UP", "app", { tags: "*" }))).toEqual(["b", "none"]);
  });

  it("wait for a first message as long as they ask, and get it when it comes", async () => {
    const { mq, clock } = await startMq();
    expect(await mq.consume("GW_UP", "app")).toEqual([]);
    const waiting = mq.consume("GW_UP", "app", { wait_ms: 20_000 });
    const tooLate = mq.consume("GW_DOWN", "app", { wait_ms: 1_000 });
    await waitFor(() => clock.nextDueMs === 1_000);
    await clock.advance(999);
    await mq.produce("GW_UP", "at last");
    expect(bodies(await waiting)).toEqual(["at last"]);
    await clock.advance(1);
    expect(await tooLate).toEqual([]);
  });

  it("that wait get what another one's lease gives back", async () => {
    const { mq, clock } = await startMq({ timings: { mqLeaseMs: 1_000 } });
    await mq.produce("GW_UP", "1");
    await mq.consume("GW_UP", "app");
    const waiting = mq.consume("GW_UP", "app", { wait_ms: 20_000 });
    await waitFor(() => clock.nextDueMs === 1_000);
    await clock.advance(1_000);
    expect(bodies(await waiting)).toEqual(["1"]);
  });

  it("a consumer that is gone takes nothing with it", async () => {
    const { mq, cloud } = await startMq();
    await mq.consume("GW_UP", "app");
    const gone = new AbortController();
    const parameters = { topic: "GW_UP", group: "app", wait_ms: "30000" };
    const asking = mq
      .ask("GET", "/mq/messages", parameters, { signal: gone.signal })
      .catch(() => undefined);
    await waitFor(() => cloud.stats.mq.waiting === 1);
    gone.abort();
    await asking;
    await waitFor(() => cloud.stats.mq.waiting === 0);
    await mq.produce("GW_UP", "1");
    expect(bodies(await mq.consume("GW_UP", "app"))).toEqual(["1"]);
  });

  it("the end of the service ends their waiting", async () => {
    const { mq, cloud, stop } = await startMq();
    const waiting = mq.consume("GW_UP", "app", { wait_ms: 60_000 });
    await waitFor(() => cloud.stats.mq.waiting === 1);
    const stopped = cloud.stop(new AbortController().signal);
    expect(await waiting).toEqual([]);
    await stopped;
    await stop();
  });

  it("of one topic are a hundred at most", async () => {
    const { mq } = await startMq();
    for (let i = 0; i < 100; i++) await mq.consume("GW_UP", `g${i}`);
    const answer = await mq.ask("GET", "/mq/messages", { topic: "GW_UP", group: "more" });
    expect(answer).toMatchObject({ status: 403, body: { error: { code: "too_many" } } });
  });
});

describe("what clients publish (lmq-protocol 8)", () => {
  it("reaches the groups of its parent topic with its properties, at any QoS", async () => {
    const { mq, mqttPort } = await startMq();
    const client = await RawClient.connect(mqttPort, { clientId: device, clean: false });
    client.publish("GW_UP", "zero", { qos: 0 });
    client.publish("GW_UP/a/b", "two", { qos: 2, messageId: 9 });
    await client.next("pubrec");
    await client.publishAcked("GW_UP/c", "one");
    const messages = await mq.consume("GW_UP", "app");
    expect(messages.map((one) => ({ ...one.properties, tag: one.tag, body: bodyOf(one) }))).toEqual(
      [
        ["", "0", "zero"],
        ["/a/b", "2", "two"],
        ["/c", "1", "one"],
      ].map(([mqttSecondTopic, qoslevel, body]) => ({
        mqttSecondTopic,
        qoslevel,
        cleansessionflag: "false",
        clientId: device,
        tag: "",
        body,
      })),
    );
  });

  it("does so with P2P, and from a clean session says so", async () => {
    const { mq, mqttPort } = await startMq();
    const client = await RawClient.connect(mqttPort, { clientId: consoleId, clean: true });
    await client.publishAcked(`GW_DOWN/p2p/${device}`, "command");
    expect((await mq.consume("GW_DOWN", "app"))[0]).toMatchObject({
      properties: {
        mqttSecondTopic: `/p2p/${device}`,
        cleansessionflag: "true",
        clientId: consoleId,
      },
    });
  });

  it("is not doubled by a repeated QoS 2 publish", async () => {
    const { mq, mqttPort } = await startMq();
    const client = await RawClient.connect(mqttPort, { clientId: device });
    client.autoAck = false;
    client.publish("GW_UP/a", "once", { qos: 2, messageId: 5 });
    client.publish("GW_UP/a", "once", { qos: 2, messageId: 5, dup: true });
    await waitFor(() => client.all("pubrec").length === 2);
    expect(bodies(await mq.consume("GW_UP", "app"))).toEqual(["once"]);
  });
});

describe("what is produced", () => {
  it("reaches subscribers on the topic below mqttSecondTopic, with its QoS", async () => {
    const { mq, mqttPort } = await startMq();
    const client = await RawClient.connect(mqttPort, { clientId: device });
    await client.subscribe("GW_UP/#", 2);
    await mq.produce("GW_UP", "default", { mqttSecondTopic: "/a" });
    await mq.produce("GW_UP", "zero", { mqttSecondTopic: "/a/b", qoslevel: "0" });
    await mq.produce("GW_UP", "parent");
    await client.untilMessages(3);
    expect(client.messages.map((m) => [m.topic, m.qos, m.payload.toString()])).toEqual([
      ["GW_UP/a", 1, "default"],
      ["GW_UP/a/b", 0, "zero"],
      ["GW_UP", 1, "parent"],
    ]);
  });

  it("to one client needs no subscription, and may show another topic", async () => {
    const { mq, mqttPort } = await startMq();
    const target = await RawClient.connect(mqttPort, { clientId: device });
    const mqttSecondTopic = `/p2p/${device}`;
    await mq.produce("GW_DOWN", "plain", { mqttSecondTopic }, "MQ2MQTT");
    await mq.produce("GW_DOWN", "shown", { mqttSecondTopic, mqttRealTopic: "GW_X/y" }, "MQ2MQTT");
    await target.untilMessages(2);
    expect(target.messages.map(({ topic }) => topic)).toEqual([`GW_DOWN/p2p/${device}`, "GW_X/y"]);
  });

  it("waits for an offline target only with cleansessionflag=false and QoS 1", async () => {
    const { mq, mqttPort, cloud } = await startMq();
    const mqttSecondTopic = `/p2p/${device}`;
    const mqttRealTopic = "GW_DOWN/shown";
    await mq.produce("GW_DOWN", "default", { mqttSecondTopic });
    await mq.produce("GW_DOWN", "clean", { mqttSecondTopic, cleansessionflag: "true" });
    const keep = { mqttSecondTopic, cleansessionflag: "false" };
    await mq.produce("GW_DOWN", "qos 0", { ...keep, qoslevel: "0" });
    await mq.produce("GW_DOWN", "kept", { ...keep, mqttRealTopic });
    expect(cloud.stats.waiting).toBe(1);
    const target = await RawClient.connect(mqttPort, { clientId: device });
    await target.untilMessages(1);
    expect(target.messages.map((m) => [m.topic, m.payload.toString()])).toEqual([
      [mqttRealTopic, "kept"],
    ]);
  });

  it("takes property names in any case, and gives the known ones back as the sheet writes them", async () => {
    const { mq } = await startMq();
    await mq.produce("GW_UP", "x", { QOSLEVEL: "2", MqttSecondTopic: "/a", "My-Own": "1" });
    const [message] = await mq.consume("GW_UP", "app");
    expect(message?.properties).toEqual({ qoslevel: "2", mqttSecondTopic: "/a", "my-own": "1" });
  });
});

describe("requests are refused with the object of the local API", () => {
  const cases: [string, Parameters<typeof refusalOf>, number, string][] = [
    ["a missing topic", ["GET", { group: "app" }], 400, "request_invalid"],
    ["a missing group", ["GET", { topic: "GW_UP" }], 400, "request_invalid"],
    [
      "a group of odd characters",
      ["GET", { topic: "GW_UP", group: "a b" }],
      400,
      "request_invalid",
    ],
    ["max=33", ["GET", { topic: "GW_UP", group: "a", max: "33" }], 400, "request_invalid"],
    ["max=0", ["GET", { topic: "GW_UP", group: "a", max: "0" }], 400, "request_invalid"],
    [
      "wait_ms=soon",
      ["GET", { topic: "GW_UP", group: "a", wait_ms: "soon" }],
      400,
      "request_invalid",
    ],
    ["tags=a||", ["GET", { topic: "GW_UP", group: "a", tags: "a||" }], 400, "request_invalid"],
    ["an unknown topic", ["GET", { topic: "GW_NONE", group: "a" }], 404, "not_found"],
    ["an unknown topic to produce to", ["POST", { topic: "GW_NONE" }], 404, "not_found"],
    ["a tag with a bar", ["POST", { topic: "GW_UP", tag: "a||b" }], 400, "request_invalid"],
    [
      "a signature of other parameters",
      ["GET", { topic: "GW_UP", group: "a" }, { topic: "GW_DOWN" }],
      403,
      "forbidden",
    ],
    ["an unsigned tag", ["POST", { topic: "GW_UP" }, { tag: "sneaked" }], 403, "forbidden"],
    [
      "a missing signature",
      ["GET", { topic: "GW_UP", group: "a" }, { signature: undefined }],
      400,
      "request_invalid",
    ],
    [
      "an unknown account",
      ["GET", { topic: "GW_UP", group: "a" }, { accessKey: "XX" }],
      403,
      "forbidden",
    ],
    [
      "another instance",
      ["GET", { topic: "GW_UP", group: "a", instanceId: "else" }],
      403,
      "forbidden",
    ],
    [
      "a stale timestamp",
      ["GET", { topic: "GW_UP", group: "a", timestamp: "1000" }],
      403,
      "forbidden",
    ],
    [
      "a timestamp that is none",
      ["GET", { topic: "GW_UP", group: "a", timestamp: "now" }],
      400,
      "request_invalid",
    ],
  ];
  it.each(cases)("%s", async (_, request, status, code) => {
    const answer = await refusalOf(...request);
    expect(answer).toMatchObject({
      status,
      body: { error: { code, message: expect.stringMatching(/\.$/) } },
    });
  });

  it.each([
    ["mqttSecondTopic without a slash", { mqttSecondTopic: "a" }],
    ["mqttSecondTopic with a wildcard", { mqttSecondTopic: "/a/#" }],
    ["a topic that gets too long", { mqttSecondTopic: `/${"a".repeat(128)}` }],
    ["mqttRealTopic of the service", { mqttRealTopic: "$SYS/tokenInvalidNotice" }],
    ["qoslevel=3", { qoslevel: "3" }],
    ["cleansessionflag=maybe", { cleansessionflag: "maybe" }],
    ["clientId, which is the service's to set", { clientId: device }],
  ])("%s", async (_, properties) => {
    const { mq, cloud } = await startMq();
    await expect(mq.produce("GW_UP", "x", properties)).rejects.toThrow(/answered 400/);
    expect(cloud.stats.mq.kept).toBe(0);
  });

  it("a payload over the limit", async () => {
    const { mq } = await startMq();
    await expect(mq.produce("GW_UP", Buffer.alloc(65_537))).rejects.toThrow(/payload_too_large/);
    await mq.produce("GW_UP", Buffer.alloc(65_536));
  });

  it("an id that is none, a group that never asked, more ids than may be", async () => {
    const { mq } = await startMq();
    await mq.consume("GW_UP", "app");
    await expect(mq.ack("GW_UP", "app", ["12"])).rejects.toThrow(/answered 400/);
    await expect(mq.ack("GW_UP", "other", ["0000000000000001"])).rejects.toThrow(/answered 404/);
    const many = Array.from({ length: 1_001 }, () => "0");
    await expect(mq.ack("GW_UP", "app", many)).rejects.toThrow(/answered 400/);
  });

  it("a method that the path does not take", async () => {
    const { mq } = await startMq();
    expect((await mq.ask("GET", "/mq/ack", {})).status).toBe(400);
  });
});

describe("order (lmq-protocol 8)", () => {
  async function ordered(lines: readonly (readonly [string, string])[], askFor = true) {
    const started = await startMq({ timings: { mqLeaseMs: 1_000 } });
    const clients = new Map<string, RawClient>();
    for (const [clientId, body] of lines) {
      let client = clients.get(clientId);
      if (!client) {
        client = await RawClient.connect(started.mqttPort, { clientId: `GID_demo@@@${clientId}` });
        if (askFor) await client.publishAcked("$SYS/enableOrderMsg", '{"order":"true"}');
        clients.set(clientId, client);
      }
      await client.publishAcked("GW_ORDERED/x", body);
    }
    return started;
  }

  it("a leased message holds back later ones of its sender, and of nobody else", async () => {
    const { mq } = await ordered([
      ["a", "a1"],
      ["a", "a2"],
      ["b", "b1"],
      ["a", "a3"],
    ]);
    const first = await mq.consume("GW_ORDERED", "app");
    expect(bodies(first)).toEqual(["a1", "b1"]);
    expect(await mq.consume("GW_ORDERED", "app")).toEqual([]);
    await mq.ack("GW_ORDERED", "app", [first[0]?.id ?? ""]);
    const second = await mq.consume("GW_ORDERED", "app");
    expect(bodies(second)).toEqual(["a2"]);
    await mq.ack("GW_ORDERED", "app", ids(second));
    expect(bodies(await mq.consume("GW_ORDERED", "app"))).toEqual(["a3"]);
  });

  it("a lease that ends gives the same message again, not the next", async () => {
    const { mq, clock } = await ordered([
      ["a", "a1"],
      ["a", "a2"],
    ]);
    expect(bodies(await mq.consume("GW_ORDERED", "app"))).toEqual(["a1"]);
    await clock.advance(1_000);
    expect(bodies(await mq.consume("GW_ORDERED", "app"))).toEqual(["a1"]);
  });

  it("a consumer that waits gets the next one when the first is confirmed", async () => {
    const { mq, cloud } = await ordered([
      ["a", "a1"],
      ["a", "a2"],
    ]);
    const first = await mq.consume("GW_ORDERED", "app");
    const waiting = mq.consume("GW_ORDERED", "app", { wait_ms: 30_000 });
    await waitFor(() => cloud.stats.mq.waiting === 1);
    await mq.ack("GW_ORDERED", "app", ids(first));
    expect(bodies(await waiting)).toEqual(["a2"]);
  });

  it("a confirmation while another one looks lets nothing overtake", async () => {
    const store = new MemoryStore();
    const before = await startMq({}, { store });
    const client = await RawClient.connect(before.mqttPort, { clientId: "GID_quiet@@@a" });
    await client.publishAcked("$SYS/enableOrderMsg", '{"order":"true"}');
    for (const body of ["a1", "a2", "a3"]) await client.publishAcked("GW_ORDERED/x", body);
    await before.stop();
    const { mq } = await startMq({}, { store });
    const [first] = await mq.consume("GW_ORDERED", "app", { max: 1 });
    // Held back at the record of a3, when a2 was passed over.
    let reads = 0;
    let letGo: (() => void) | undefined;
    store.afterRead = () =>
      ++reads < 2
        ? Promise.resolve()
        : new Promise((resolve) => {
            letGo = resolve;
          });
    const looking = mq.consume("GW_ORDERED", "app");
    await waitFor(() => letGo !== undefined);
    await mq.ack("GW_ORDERED", "app", [first?.id ?? ""]);
    store.afterRead = () => Promise.resolve();
    letGo?.();
    expect(await looking).toEqual([]);
    expect(bodies(await mq.consume("GW_ORDERED", "app"))).toEqual(["a2"]);
  });

  it("is not kept for a sender that did not ask for it", async () => {
    const { mq } = await ordered(
      [
        ["a", "a1"],
        ["a", "a2"],
      ],
      false,
    );
    expect(bodies(await mq.consume("GW_ORDERED", "app"))).toEqual(["a1", "a2"]);
  });

  it("is not kept on a topic that is not an ordered one", async () => {
    const { mq, mqttPort } = await startMq();
    const client = await RawClient.connect(mqttPort, { clientId: device });
    await client.publishAcked("$SYS/enableOrderMsg", '{"order":"true"}');
    await client.publishAcked("GW_UP/x", "1");
    await client.publishAcked("GW_UP/x", "2");
    expect(bodies(await mq.consume("GW_UP", "app"))).toEqual(["1", "2"]);
  });
});

describe("what is not needed any more", () => {
  it("is gone from the disk when every group has confirmed it, in any order", async () => {
    const store = new MemoryStore();
    const { mq, cloud } = await startMq({}, { store });
    for (let i = 0; i < 50; i++) await mq.produce("GW_UP", `${i}`);
    const mine = [
      ...(await mq.consume("GW_UP", "one")),
      ...(await mq.consume("GW_UP", "one")),
    ].reverse();
    await mq.consume("GW_UP", "two");
    for (const { id } of mine) await mq.ack("GW_UP", "one", [id]);
    expect(cloud.stats.mq.kept).toBe(50);
    await mq.drain("GW_UP", "two");
    await mq.ack("GW_UP", "two", ids(mine));
    expect(cloud.stats.mq.kept).toBe(0);
    await waitFor(() => store.countOf("cloud_mq_packs") === 0);
    await waitFor(() => store.countOf("cloud_mq_confirmed") === 0);
  });

  it("goes over its age, counted", async () => {
    const { mq, cloud, clock } = await startMq({ timings: { offlineRetentionMs: 100_000 } });
    await mq.produce("GW_UP", "old");
    await clock.advance(60_000);
    await mq.produce("GW_UP", "young");
    await clock.advance(60_000);
    expect(cloud.stats.mq).toMatchObject({ kept: 1, expired: 1 });
    expect(bodies(await mq.consume("GW_UP", "app"))).toEqual(["young"]);
  });

  it("goes over the bound of its topic, the oldest first and counted", async () => {
    const { mq, cloud } = await startMq({ limits: { mqPerTopic: 10, mqUnread: 5 } });
    for (let i = 0; i < 8; i++) await mq.produce("GW_UP", `${i}`);
    expect(cloud.stats.mq).toMatchObject({ kept: 5, removedForLimit: 3 });
    expect(bodies(await mq.consume("GW_UP", "app"))).toEqual(["3", "4", "5", "6", "7"]);
    for (let i = 8; i < 20; i++) await mq.produce("GW_UP", `${i}`);
    expect(cloud.stats.mq).toMatchObject({ kept: 10 });
    expect(bodies(await mq.consume("GW_UP", "new"))).toEqual(
      Array.from({ length: 10 }, (_, i) => `${i + 10}`),
    );
  });

  it("a group that nobody used for the retention time is forgotten", async () => {
    const { mq, cloud, clock } = await startMq({ timings: { offlineRetentionMs: 100_000 } });
    await mq.consume("GW_UP", "app");
    await clock.advance(180_000);
    expect(cloud.stats.mq.groups).toBe(0);
  });
});

async function refusalOf(
  method: "GET" | "POST",
  parameters: Readonly<Record<string, string>>,
  change: Readonly<Record<string, string | undefined>> = {},
) {
  const { mq, cloud } = await startMq();
  const answer = await mq.ask(method, "/mq/messages", parameters, { change });
  expect(cloud.stats.mq).toMatchObject({ kept: 0, groups: 0 });
  return answer;
}
