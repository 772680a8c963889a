import fc from "fast-check";
import { generate } from "mqtt-packet";
import { describe, expect, it } from "vitest";
import { makeConnectPassword } from "../../../agent/protocol/connect-signature.ts";
import { startCloud } from "../../support/cloud.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { RawClient } from "../../support/raw-client.ts";
import { waitFor } from "../../support/wait-for.ts";

const device = "GID_demo@@@gw-01";
const bystanderId = "GID_demo@@@bystander";

describe("CONNECT", () => {
  it.each([
    ["a wrong password", { clientId: device, password: "wrong" }, 5],
    ["a group that was not created", { clientId: "GID_nope@@@1" }, 5],
    ["an id of another form", { clientId: "gw-01" }, 2],
  ])("with %s is answered with its code and closed", async (_, connect, returnCode) => {
    const { mqttPort } = await startCloud();
    const client = await RawClient.open(mqttPort);
    client.sendConnect(connect);
    await client.untilClosed();
    expect(client.packets).toMatchObject([{ cmd: "connack", returnCode, sessionPresent: false }]);
  });

  it("with an id of 65 characters is dropped without a word", async () => {
    const { mqttPort } = await startCloud();
    const client = await RawClient.open(mqttPort);
    client.sendConnect({ clientId: `GID_demo@@@${"d".repeat(54)}` });
    await client.untilClosed();
    expect(client.packets).toEqual([]);
  });

  it("of MQTT 5 is answered with code 1 [MQTT-3.1.2-2]", async () => {
    const { mqttPort } = await startCloud();
    const client = await RawClient.open(mqttPort);
    client.send(generate({ cmd: "connect", protocolVersion: 5, clientId: device }));
    await client.untilClosed();
    expect(client.packets).toMatchObject([{ cmd: "connack", returnCode: 1 }]);
  });

  it("of MQTT 3.1 is taken, as the vendor's older clients send it", async () => {
    const { mqttPort } = await startCloud();
    const client = await RawClient.open(mqttPort);
    client.sendConnect({ clientId: device, protocolId: "MQIsdp", protocolVersion: 3 });
    expect(await client.next("connack")).toMatchObject({ returnCode: 0 });
    await client.publishAcked(`GW_DOWN/p2p/${device}`, "mine");
    await client.untilMessages(1);
  });

  it("sent twice closes the connection [MQTT-3.1.0-2]", async () => {
    const { mqttPort } = await startCloud();
    const client = await RawClient.connect(mqttPort, { clientId: device });
    client.sendConnect({ clientId: device });
    await client.untilClosed();
  });

  it("that does not come is waited for no longer than the connect timeout", async () => {
    const clock = new FakeClock();
    const { mqttPort, cloud } = await startCloud({}, { clock });
    const silent = await RawClient.open(mqttPort);
    const slow = await RawClient.open(mqttPort);
    slow.send(Buffer.from([0x10, 0x20, 0x00]));
    await waitFor(() => cloud.stats.connections === 2);
    await clock.advance(9_999);
    expect(cloud.stats.connections).toBe(2);
    await clock.advance(1);
    await silent.untilClosed();
    await slow.untilClosed();
    expect(cloud.stats.connections).toBe(0);
  });

  it("of the same client id takes over; the older connection is closed", async () => {
    const { mqttPort, cloud } = await startCloud();
    const older = await RawClient.connect(mqttPort, { clientId: device, clean: false });
    await older.subscribe("GW_UP/#");
    const newer = await RawClient.connect(mqttPort, { clientId: device, clean: false });
    await older.untilClosed();
    expect(newer.packets[0]).toMatchObject({ cmd: "connack", sessionPresent: true });
    await newer.publishAcked("GW_UP/a", "mine");
    await newer.untilMessages(1);
    expect(cloud.stats).toMatchObject({ takeovers: 1, connections: 1 });
    expect(cloud.connectionsOf(device)).toBe(1);
  });

  it("beyond the connections of one address is closed", async () => {
    const { mqttPort } = await startCloud({ limits: { connectionsPerAddress: 2 } });
    await RawClient.connect(mqttPort, { clientId: device });
    const second = await RawClient.connect(mqttPort, { clientId: bystanderId });
    const third = await RawClient.open(mqttPort);
    await third.untilClosed();
    await second.disconnect();
    await RawClient.connect(mqttPort, { clientId: "GID_demo@@@third" });
  });
});

describe("what closes a connection, and only that one", () => {
  const publish = (topic: string, payload: Buffer | string = "x") =>
    generate({ cmd: "publish", topic, payload, qos: 1, messageId: 1, dup: false, retain: false });
  const subscribe = (topic: string) =>
    generate({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic, qos: 1 }] });
  const illFormed = (bytes: number[]) => Buffer.from(bytes);
  /** Two bytes of length and the characters as single bytes. */
  const text = (latin1: string) => [0, latin1.length, ...Buffer.from(latin1, "latin1")];
  const packet = (first: number, head: number[], ...rest: number[]) =>
    illFormed([first, head.length + rest.length, ...head, ...rest]);

  it.each([
    ["a publish to an uncreated parent topic", publish("NOPE/a")],
    ["a publish with a wildcard", publish("GW_UP/+")],
    ["a publish to a topic over the limit", publish(`GW_UP/${"x".repeat(123)}`)],
    ["a publish to a notice of the service", publish("$SYS/tokenInvalidNotice")],
    ["a payload over 64 KB", publish("GW_UP/a", Buffer.alloc(65_537))],
    ["a subscription below an uncreated parent", subscribe("NOPE/#")],
    ["a subscription to every parent", subscribe("#")],
    ["a malformed filter", subscribe("GW_UP/a#")],
    // All of them would be fine but for the one thing: the topic is below a parent that exists.
    ["QoS 3 [MQTT-3.3.1-4]", packet(0x36, text("GW_UP"), 0, 1)],
    ["a repeat of QoS 0 [MQTT-3.3.1-2]", packet(0x38, text("GW_UP"))],
    ["packet id 0 [MQTT-2.3.1-1]", packet(0x32, text("GW_UP"), 0, 0)],
    ["a publish without its packet id", packet(0x32, text("GW_UP"), 1)],
    ["a topic that is not UTF-8 [MQTT-1.5.3-1]", packet(0x30, text("GW_UP/\xc3\x28"))],
    ["U+0000 in a topic [MQTT-1.5.3-2]", packet(0x30, text("GW_UP/\0"))],
    ["a topic longer than its packet", packet(0x30, [0, 9], ...text("GW_UP").slice(2))],
    ["a subscribe with packet id 0", packet(0x82, [0, 0], ...text("GW_UP"), 1)],
    ["a subscribe without filters [MQTT-3.8.3-3]", packet(0x82, [0, 1])],
    ["reserved flags [MQTT-2.2.2-2]", packet(0x80, [0, 1], ...text("GW_UP"), 1)],
    ["a requested QoS of 3 [MQTT-3.8.3-4]", packet(0x82, [0, 1], ...text("GW_UP"), 3)],
    ["a filter that is not UTF-8", packet(0x82, [0, 1], ...text("GW_UP/\xc3\x28"), 1)],
    ["U+0000 in a filter", packet(0x82, [0, 1], ...text("GW_UP/\0"), 1)],
    ["a filter longer than its packet", packet(0x82, [0, 1], 0, 9, 0x47, 1)],
    ["bytes behind a PINGREQ", packet(0xc0, [0])],
    ["a PUBACK with packet id 0", packet(0x40, [0, 0])],
    ["bytes behind the end of a PUBACK", illFormed([0x40, 3, 0, 1, 0])],
    ["a packet that only servers send", illFormed([0x20, 2, 0, 0])],
    ["an announced length of 256 MB", illFormed([0x30, 0xff, 0xff, 0xff, 0x7f])],
    ["a length of five bytes", illFormed([0x30, 0xff, 0xff, 0xff, 0xff, 0x7f])],
  ])("%s", async (_, bytes) => {
    const { mqttPort, cloud } = await startCloud();
    const bystander = await RawClient.connect(mqttPort, { clientId: bystanderId });
    await bystander.subscribe("GW_UP/#");
    const client = await RawClient.connect(mqttPort, { clientId: device });
    client.send(bytes);
    await client.untilClosed();
    expect(client.packets.map(({ cmd }) => cmd)).toEqual(["connack"]);
    await bystander.publishAcked("GW_UP/still", "here");
    await bystander.untilMessages(1);
    expect(bystander.payloads).toEqual(["here"]);
    expect(cloud.stats.connections).toBe(1);
  });

  it("a packet before CONNECT", async () => {
    const { mqttPort } = await startCloud();
    const client = await RawClient.open(mqttPort);
    client.publish("GW_UP/a", "x");
    await client.untilClosed();
    expect(client.packets).toEqual([]);
  });

  const password = Buffer.from(makeConnectPassword("SK", device));
  const username = "Signature|AK|mqtt-local";
  const connect = generate({ cmd: "connect", clientId: device, clean: true, username, password });
  const [first = 0, length = 0, ...body] = connect;
  it.each([
    ["as it should be", [first, length, ...body], false],
    ["with a byte behind its end", [first, length + 1, ...body, 0], true],
    ["with the reserved flag [MQTT-3.1.2-3]", [first, length, ...body.with(7, 0xc3)], true],
  ])("a CONNECT %s", async (_, bytes, closes) => {
    const { mqttPort } = await startCloud();
    const client = await RawClient.open(mqttPort);
    client.send(Uint8Array.from(bytes));
    if (closes) await client.untilClosed();
    else await client.next("connack");
    expect(client.packets).toHaveLength(closes ? 0 : 1);
  });

  it("1.5 times the keep-alive without a packet [MQTT-3.1.2-24]", async () => {
    const clock = new FakeClock();
    const { mqttPort } = await startCloud({}, { clock });
    const client = await RawClient.connect(mqttPort, { clientId: device, keepalive: 10 });
    await clock.advance(14_000);
    await client.ping();
    await clock.advance(14_999);
    expect(client.closed).toBe(false);
    await clock.advance(1);
    await client.untilClosed();
  });
});

it("a payload of exactly 64 KB passes, cut into single bytes too", async () => {
  const { mqttPort } = await startCloud();
  const client = await RawClient.connect(mqttPort, { clientId: device });
  await client.subscribe("GW_UP/#", 0);
  client.publish("GW_UP/big", Buffer.alloc(65_536, 1));
  const [big] = await client.untilMessages(1);
  expect(big?.payload).toHaveLength(65_536);
  const packet = generate({
    cmd: "publish",
    topic: "GW_UP/bytes",
    payload: "one by one",
    qos: 1,
    messageId: 2,
    dup: false,
    retain: false,
  });
  for (const byte of packet) client.send(Uint8Array.of(byte));
  await client.untilMessages(2);
  expect(client.payloads[1]).toBe("one by one");
});

it("control channels are acknowledged and reach nobody", async () => {
  const { mqttPort } = await startCloud();
  const client = await RawClient.connect(mqttPort, { clientId: device });
  expect(await client.subscribe("$SYS/tokenExpireNotice")).toEqual([1]);
  await client.publishAcked("$SYS/enableOrderMsg", '{"order":"true"}');
  await client.publishAcked("$SYS/getOfflineMsg", '{"maxPushNum":30,"pushOrder":"ASC"}');
  await client.ping();
  expect(client.messages).toEqual([]);
});

it("the rate limit of a client reads later and loses nothing", async () => {
  const clock = new FakeClock();
  const { mqttPort, cloud } = await startCloud({ limits: { ratePerClient: 10 } }, { clock });
  const client = await RawClient.connect(mqttPort, { clientId: device });
  for (let i = 1; i <= 25; i++) client.publish("GW_UP/a", "x", { messageId: i });
  await waitFor(() => cloud.stats.accepted === 10);
  await clock.advance(1_000);
  await waitFor(() => cloud.stats.accepted === 20);
  await clock.advance(1_000);
  await waitFor(() => client.all("puback").length === 25);
});

it("random bytes, mutated packets and half packets disturb nobody else", async () => {
  const { mqttPort, cloud } = await startCloud();
  const bystander = await RawClient.connect(mqttPort, { clientId: bystanderId });
  await bystander.subscribe("GW_UP/#");
  const samples = [
    generate({
      cmd: "publish",
      topic: "GW_UP/a",
      payload: "x",
      qos: 2,
      messageId: 3,
      dup: false,
      retain: false,
    }),
    generate({ cmd: "subscribe", messageId: 4, subscriptions: [{ topic: "GW_UP/+", qos: 1 }] }),
    generate({ cmd: "unsubscribe", messageId: 5, unsubscriptions: ["GW_UP/+"] }),
    generate({ cmd: "pubrel", messageId: 3 }),
    generate({ cmd: "pingreq" }),
  ];
  const mutated = fc
    .tuple(fc.constantFrom(...samples), fc.nat(20), fc.nat(255), fc.boolean())
    .map(([packet, at, byte, cut]) => {
      const copy = Uint8Array.from(packet);
      copy[at % copy.length] = byte;
      return cut ? copy.subarray(0, at % copy.length) : copy;
    });
  const input = fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 200 }), mutated);
  let round = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(input, { minLength: 1, maxLength: 8 }),
      fc.boolean(),
      async (all, known) => {
        const clientId = `GID_demo@@@fuzz-${round++}`;
        const client = known
          ? await RawClient.connect(mqttPort, { clientId })
          : await RawClient.open(mqttPort);
        client.autoAck = false;
        for (const bytes of all) client.send(bytes);
        await client.drop();
      },
    ),
    { numRuns: 200 },
  );
  bystander.packets.length = 0;
  await bystander.publishAcked("GW_UP/still", "here");
  await waitFor(() => bystander.payloads.includes("here"));
  await waitFor(() => cloud.stats.connections === 1);
});
