/**
 * The statements of MQTT 3.1.1 that bind a server and that lmq-protocol does not override, each
 * under its clause. Overridden, and therefore not here: wills and retained messages (1.4 of the
 * sheet: neither is kept), resending at once after a reconnect (6: after the ack timeout), the
 * answer to what is not allowed (1.4: the connection is closed), client ids (1.1: the sheet's form).
 */
import { describe, expect, it } from "vitest";
import { makeConnectPassword } from "../../../agent/protocol/connect-signature.ts";
import { startCloud } from "../../support/cloud.ts";
import { field, packet, text } from "../../support/packet-bytes.ts";
import { RawClient, type RawConnect } from "../../support/raw-client.ts";
import { waitFor } from "../../support/wait-for.ts";

const device = "GID_demo@@@gw-01";
const username = "Signature|AK|mqtt-local";
const password = makeConnectPassword("SK", device);
const toDevice = `GW_DOWN/p2p/${device}`;

interface Rig {
  readonly port: number;
  open(): Promise<RawClient>;
  /** Connected as the device, or as another one. */
  connect(options?: Partial<RawConnect>): Promise<RawClient>;
}

async function startRig(): Promise<Rig> {
  const { mqttPort: port } = await startCloud({ timings: { ackTimeoutMs: 100 } });
  return {
    port,
    open: () => RawClient.open(port),
    connect: (options = {}) => RawClient.connect(port, { clientId: device, ...options }),
  };
}

type Point = readonly [clause: string, says: string, check: (rig: Rig) => Promise<void>];

function points(title: string, list: readonly Point[]): void {
  describe(title, () => {
    it.each(list)("%s %s", async (_clause, _says, check) => check(await startRig()));
  });
}

/** The connection is closed without an answer, and somebody else is served. */
function closes(bytes: Uint8Array): Point[2] {
  return async (rig) => {
    const client = await rig.connect();
    client.send(bytes);
    await client.untilClosed();
    expect(client.packets.map(({ cmd }) => cmd)).toEqual(["connack"]);
    await served(rig);
  };
}

/** The same for a first packet. */
function closesStranger(...all: readonly Uint8Array[]): Point[2] {
  return async (rig) => {
    const client = await rig.open();
    for (const bytes of all) client.send(bytes);
    await client.untilClosed();
    expect(client.packets).toEqual([]);
    await served(rig);
  };
}

/** The CONNECT is answered with this code and closed. */
function refuses(bytes: Uint8Array, returnCode: number): Point[2] {
  return async (rig) => {
    const client = await rig.open();
    client.send(bytes);
    await client.untilClosed();
    expect(client.packets).toMatchObject([
      { cmd: "connack", returnCode, sessionPresent: false }, // [MQTT-3.2.2-4]
    ]);
    await served(rig);
  };
}

async function served(rig: Rig): Promise<void> {
  const bystander = await rig.connect({ clientId: "GID_demo@@@bystander" });
  await bystander.ping();
}

interface ConnectParts {
  readonly first?: number;
  readonly protocol?: Uint8Array;
  readonly level?: number;
  readonly flags?: number;
  readonly payload?: readonly Uint8Array[];
}

const USER_PASSWORD_CLEAN = 0xc2;

function connectBytes(parts: ConnectParts = {}): Uint8Array {
  const { first = 0x10, protocol = text("MQTT"), level = 4, flags = USER_PASSWORD_CLEAN } = parts;
  const payload = parts.payload ?? [text(device), text(username), text(password)];
  return packet(first, protocol, level, flags, 0, 60, ...payload);
}

/** QoS 1, packet id 1, unless told otherwise. */
function publishBytes(topic: Uint8Array, first = 0x32, id: readonly number[] = [0, 1]): Uint8Array {
  return packet(first, topic, ...id, 0x78);
}

function subscribeBytes(filter: Uint8Array, qos = 1, first = 0x82): Uint8Array {
  return packet(first, 0, 1, filter, qos);
}

const badText = field(Buffer.from("GW_UP/\xc3\x28", "latin1"));
const surrogate = field(Buffer.from([0x47, 0x57, 0x5f, 0x55, 0x50, 0x2f, 0xed, 0xa0, 0x80]));
const nullText = text("GW_UP/\0");

it("a CONNECT made by hand here is a good one", async () => {
  const rig = await startRig();
  const client = await rig.open();
  client.send(connectBytes());
  expect(await client.next("connack")).toMatchObject({ returnCode: 0, sessionPresent: false });
});

points("characters (1.5.3)", [
  ["[MQTT-1.5.3-1]", "ill-formed UTF-8 in a topic closes", closes(publishBytes(badText))],
  ["[MQTT-1.5.3-1]", "a surrogate in a topic closes", closes(publishBytes(surrogate))],
  ["[MQTT-1.5.3-1]", "ill-formed UTF-8 in a filter closes", closes(subscribeBytes(badText))],
  ["[MQTT-1.5.3-2]", "U+0000 in a topic closes", closes(publishBytes(nullText))],
  ["[MQTT-1.5.3-2]", "U+0000 in a filter closes", closes(subscribeBytes(nullText))],
  [
    "[MQTT-1.5.3-2]",
    "U+0000 in a client id closes",
    closesStranger(
      connectBytes({ payload: [text("GID_demo@@@a\0"), text(username), text(password)] }),
    ),
  ],
  [
    "[MQTT-1.5.3-3]",
    "U+FEFF is a character like any other, also at the start of a level",
    async (rig) => {
      const client = await rig.connect();
      await client.subscribe("GW_UP/\ufeffa");
      await client.publishAcked("GW_UP/a", "without");
      await client.publishAcked("GW_UP/\ufeffa", "with");
      await client.untilMessages(1);
      expect(client.messages[0]?.topic).toBe("GW_UP/\ufeffa");
      expect(client.payloads).toEqual(["with"]);
    },
  ],
]);

points("fixed header (2.2)", [
  ...(
    [
      ["type 0", packet(0x00)],
      ["type 15", packet(0xf0)],
      ["CONNACK, which only a server sends", packet(0x20, 0, 0)],
      ["SUBACK, which only a server sends", packet(0x90, 0, 1, 0)],
      ["UNSUBACK, which only a server sends", packet(0xb0, 0, 1)],
      ["PINGRESP, which only a server sends", packet(0xd0)],
      ["a PUBACK with flags", packet(0x41, 0, 1)],
      ["a PUBREC with flags", packet(0x52, 0, 1)],
      ["a PUBREL without its flag", packet(0x60, 0, 1)],
      ["a PUBCOMP with flags", packet(0x72, 0, 1)],
      ["a SUBSCRIBE without its flag", subscribeBytes(text("GW_UP"), 1, 0x80)],
      ["an UNSUBSCRIBE without its flag", packet(0xa0, 0, 1, text("GW_UP"))],
      ["a PINGREQ with flags", packet(0xc1)],
      ["a DISCONNECT with flags", packet(0xe1)],
    ] as const
  ).map(([what, bytes]): Point => ["[MQTT-2.2.2-2]", `${what} closes`, closes(bytes)]),
  ["[MQTT-2.2.2-2]", "a CONNECT with flags closes", closesStranger(connectBytes({ first: 0x11 }))],
  [
    "2.2.3",
    "a remaining length of five bytes closes",
    closes(Uint8Array.of(0x30, 255, 255, 255, 255, 1)),
  ],
  [
    "2.2.3",
    "a remaining length of 256 MB closes at once",
    closes(Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0x7f)),
  ],
  [
    "2.2.3",
    "a stranger may announce no more than a CONNECT needs",
    closesStranger(Uint8Array.of(0x10, 0x80, 0x80, 0x04)),
  ],
]);

points("packet ids (2.3.1)", [
  ["[MQTT-2.3.1-1]", "0 in a PUBLISH closes", closes(publishBytes(text("GW_UP"), 0x32, [0, 0]))],
  ["[MQTT-2.3.1-1]", "0 in a SUBSCRIBE closes", closes(packet(0x82, 0, 0, text("GW_UP"), 1))],
  ["[MQTT-2.3.1-1]", "0 in an UNSUBSCRIBE closes", closes(packet(0xa2, 0, 0, text("GW_UP")))],
  ["2.3.1", "0 in a PUBACK closes", closes(packet(0x40, 0, 0))],
  ["2.3.1", "0 in a PUBREL closes", closes(packet(0x62, 0, 0))],
  [
    "[MQTT-2.3.1-4]",
    "what we send unacknowledged carries ids that differ",
    async (rig) => {
      const client = await rig.connect();
      client.autoAck = false;
      await client.subscribe("GW_UP/#");
      for (let i = 1; i <= 50; i++) client.publish("GW_UP/a", "x", { messageId: i });
      const messages = await client.untilMessages(50);
      expect(new Set(messages.slice(0, 50).map(({ messageId }) => messageId)).size).toBe(50);
    },
  ],
  [
    "[MQTT-2.3.1-5]",
    "a PUBLISH of QoS 0 carries none",
    async (rig) => {
      const client = await rig.connect();
      await client.subscribe("GW_UP/a", 0);
      const chunks: Buffer[] = [];
      client.socket.on("data", (chunk: Buffer) => chunks.push(chunk));
      client.send(packet(0x30, text("GW_UP/a"), 0x78));
      await client.untilMessages(1);
      expect(Uint8Array.from(Buffer.concat(chunks))).toEqual(packet(0x30, text("GW_UP/a"), 0x78));
    },
  ],
  [
    "[MQTT-2.3.1-6], [MQTT-2.3.1-7]",
    "each answer carries the id of its request",
    async (rig) => {
      const client = await rig.connect();
      client.autoAck = false;
      client.publish("GW_UP/a", "x", { messageId: 0xfffe });
      client.publish("GW_UP/a", "x", { qos: 2, messageId: 0xffff });
      client.send({ cmd: "pubrel", messageId: 0xffff });
      client.send({
        cmd: "subscribe",
        messageId: 258,
        subscriptions: [{ topic: "GW_UP/a", qos: 0 }],
      });
      client.send({ cmd: "unsubscribe", messageId: 259, unsubscriptions: ["GW_UP/a"] });
      await client.next("unsuback");
      expect(client.packets.slice(1)).toMatchObject([
        { cmd: "puback", messageId: 0xfffe },
        { cmd: "pubrec", messageId: 0xffff },
        { cmd: "pubcomp", messageId: 0xffff },
        { cmd: "suback", messageId: 258 },
        { cmd: "unsuback", messageId: 259 },
      ]);
    },
  ],
]);

points("CONNECT (3.1)", [
  ["[MQTT-3.1.0-1]", "another first packet closes", closesStranger(packet(0xc0))],
  ["[MQTT-3.1.0-1]", "a PUBLISH first closes", closesStranger(publishBytes(text("GW_UP")))],
  ["[MQTT-3.1.0-2]", "a second CONNECT closes", closes(connectBytes())],
  [
    "[MQTT-3.1.2-1]",
    "another protocol name closes without an answer",
    closesStranger(connectBytes({ protocol: text("mqtt") })),
  ],
  ["[MQTT-3.1.2-2]", "level 5 gets code 1 and is closed", refuses(connectBytes({ level: 5 }), 1)],
  ["[MQTT-3.1.2-2]", "level 0 gets code 1 and is closed", refuses(connectBytes({ level: 0 }), 1)],
  [
    "[MQTT-3.1.2-3]",
    "the reserved flag closes",
    closesStranger(connectBytes({ flags: USER_PASSWORD_CLEAN | 1 })),
  ],
  [
    "[MQTT-3.1.2-11], [MQTT-3.1.2-13]",
    "a QoS of a will without a will closes",
    closesStranger(connectBytes({ flags: USER_PASSWORD_CLEAN | 0x08 })),
  ],
  [
    "[MQTT-3.1.2-14]",
    "a will of QoS 3 closes",
    closesStranger(
      connectBytes({
        flags: USER_PASSWORD_CLEAN | 0x1c,
        payload: [text(device), text("GW_UP/w"), text("x"), text(username), text(password)],
      }),
    ),
  ],
  [
    "[MQTT-3.1.2-15]",
    "a retained will without a will closes",
    closesStranger(connectBytes({ flags: USER_PASSWORD_CLEAN | 0x20 })),
  ],
  [
    "[MQTT-3.1.2-18]",
    "a user name without its flag closes",
    closesStranger(connectBytes({ flags: 0x02, payload: [text(device), text(username)] })),
  ],
  [
    "[MQTT-3.1.2-19]",
    "no user name with its flag closes",
    closesStranger(connectBytes({ flags: 0x82, payload: [text(device)] })),
  ],
  [
    "[MQTT-3.1.2-21]",
    "no password with its flag closes",
    closesStranger(connectBytes({ payload: [text(device), text(username)] })),
  ],
  [
    "[MQTT-3.1.2-22]",
    "a password without a user name closes",
    closesStranger(connectBytes({ flags: 0x42, payload: [text(device), text(password)] })),
  ],
  [
    "[MQTT-3.1.3-1]",
    "the fields of a will are read in their order and kept apart from the credentials",
    async (rig) => {
      const client = await rig.open();
      client.send(
        connectBytes({
          flags: USER_PASSWORD_CLEAN | 0x04,
          payload: [text(device), text("GW_UP/w"), text("x"), text(username), text(password)],
        }),
      );
      expect(await client.next("connack")).toMatchObject({ returnCode: 0 });
    },
  ],
  [
    "[MQTT-3.1.3-4]",
    "a client id that is not UTF-8 closes",
    closesStranger(connectBytes({ payload: [badText, text(username), text(password)] })),
  ],
  [
    "[MQTT-3.1.3-8]",
    "no client id without a clean session gets code 2 and is closed",
    refuses(connectBytes({ flags: 0xc0, payload: [text(""), text(username), text(password)] }), 2),
  ],
  [
    "[MQTT-3.1.3-11]",
    "a user name that is not UTF-8 closes",
    closesStranger(connectBytes({ payload: [text(device), badText, text(password)] })),
  ],
  [
    "[MQTT-3.1.4-1]",
    "a byte behind the end closes",
    async (rig) => {
      const good = connectBytes();
      const longer = Uint8Array.of(...good, 0);
      longer[1] = (good[1] ?? 0) + 1;
      await closesStranger(longer)(rig);
    },
  ],
  [
    "[MQTT-3.1.4-2]",
    "an older connection of the same client id is closed",
    async (rig) => {
      const older = await rig.connect();
      const newer = await rig.connect();
      await older.untilClosed();
      await newer.ping();
    },
  ],
  [
    "[MQTT-3.1.4-4]",
    "what is sent with the CONNECT, before its answer, is taken",
    async (rig) => {
      const client = await rig.open();
      client.send(
        Buffer.concat([
          connectBytes(),
          subscribeBytes(text("GW_UP/a")),
          publishBytes(text("GW_UP/a")),
        ]),
      );
      await client.untilMessages(1);
      expect(client.packets[0]?.cmd).toBe("connack");
    },
  ],
  [
    "[MQTT-3.1.4-5]",
    "what is sent behind a CONNECT that is refused is not processed",
    async (rig) => {
      const witness = await rig.connect({ clientId: "GID_demo@@@witness" });
      await witness.subscribe("GW_UP/#");
      const client = await rig.open();
      const refused = connectBytes({ payload: [text(device), text(username), text("wrong")] });
      client.send(Buffer.concat([refused, publishBytes(text("GW_UP/a"))]));
      await client.untilClosed();
      expect(client.packets).toMatchObject([{ cmd: "connack", returnCode: 5 }]);
      await witness.ping();
      expect(witness.messages).toEqual([]);
    },
  ],
]);

points("sessions (3.1.2.4, 3.2.2, 4.1)", [
  [
    "[MQTT-3.1.2-4], [MQTT-3.2.2-2]",
    "a persistent session is resumed and said to be present",
    async (rig) => {
      const before = await rig.connect({ clean: false });
      expect(before.packets[0]).toMatchObject({ sessionPresent: false }); // [MQTT-3.2.2-3]
      await before.subscribe("GW_UP/a");
      await before.drop();
      const after = await rig.connect({ clean: false });
      expect(after.packets[0]).toMatchObject({ sessionPresent: true });
      await after.publishAcked("GW_UP/a", "still subscribed");
      await after.untilMessages(1);
    },
  ],
  [
    "[MQTT-3.1.2-5]",
    "a message of QoS 1 for a subscription waits for its client",
    async (rig) => {
      const before = await rig.connect({ clean: false });
      await before.subscribe("GW_UP/a");
      await before.drop();
      const sender = await rig.connect({ clientId: "GID_demo@@@sender" });
      await sender.publishAcked("GW_UP/a", "later");
      const after = await rig.connect({ clean: false });
      await after.untilMessages(1);
      expect(after.payloads).toEqual(["later"]);
    },
  ],
  [
    "[MQTT-3.1.2-6], [MQTT-3.2.2-1]",
    "a clean session begins without what was there, and leaves nothing",
    async (rig) => {
      const before = await rig.connect({ clean: false });
      await before.subscribe("GW_UP/a");
      await before.drop();
      const clean = await rig.connect({ clean: true });
      expect(clean.packets[0]).toMatchObject({ sessionPresent: false });
      await clean.publishAcked("GW_UP/a", "x");
      await clean.ping();
      expect(clean.messages).toEqual([]);
      await clean.subscribe("GW_UP/b");
      await clean.drop();
      const after = await rig.connect({ clean: false });
      expect(after.packets[0]).toMatchObject({ sessionPresent: false });
    },
  ],
  [
    "[MQTT-3.2.0-1]",
    "the first packet is the CONNACK, although messages wait",
    async (rig) => {
      const sender = await rig.connect({ clientId: "GID_demo@@@sender", clean: false });
      await sender.publishAcked(toDevice, "waits");
      const client = await rig.connect();
      await client.untilMessages(1);
      expect(client.packets.map(({ cmd }) => cmd)).toEqual(["connack", "publish"]);
    },
  ],
  [
    "[MQTT-4.3.3-2]",
    "a QoS 2 message known before the connection broke is routed once",
    async (rig) => {
      const witness = await rig.connect({ clientId: "GID_demo@@@witness" });
      await witness.subscribe("GW_UP/#");
      const before = await rig.connect({ clean: false });
      before.autoAck = false;
      before.publish("GW_UP/a", "once", { qos: 2, messageId: 9 });
      await before.next("pubrec");
      await before.drop();
      const after = await rig.connect({ clean: false });
      after.autoAck = false;
      after.publish("GW_UP/a", "once", { qos: 2, messageId: 9, dup: true });
      await after.next("pubrec");
      after.send({ cmd: "pubrel", messageId: 9 });
      await after.next("pubcomp");
      await witness.ping();
      expect(witness.payloads).toEqual(["once"]);
    },
  ],
]);

points("PUBLISH and its flows (3.3, 4.3, 4.6)", [
  [
    "[MQTT-3.3.1-1]",
    "what is sent again is marked, and has its id",
    async (rig) => {
      const client = await rig.connect();
      client.autoAck = false;
      await client.publishAcked(toDevice, "again");
      const [first, second] = await client.untilMessages(2);
      expect([first?.dup, second?.dup]).toEqual([false, true]);
      expect(second?.messageId).toBe(first?.messageId);
    },
  ],
  [
    "[MQTT-3.3.1-2]",
    "QoS 0 marked as sent again closes",
    closes(packet(0x38, text("GW_UP"), 0x78)),
  ],
  [
    "[MQTT-3.3.1-3]",
    "the mark of the sender is not passed on",
    async (rig) => {
      const client = await rig.connect();
      await client.subscribe("GW_UP/a");
      client.publish("GW_UP/a", "x", { dup: true });
      const [message] = await client.untilMessages(1);
      expect(message?.dup).toBe(false);
    },
  ],
  ["[MQTT-3.3.1-4]", "QoS 3 closes", closes(publishBytes(text("GW_UP"), 0x36))],
  [
    "[MQTT-3.3.1-9]",
    "what goes to a subscription that was there has no RETAIN",
    async (rig) => {
      const client = await rig.connect();
      await client.subscribe("GW_UP/a");
      client.publish("GW_UP/a", "x", { retain: true });
      const [message] = await client.untilMessages(1);
      expect(message?.retain).toBe(false);
    },
  ],
  ["[MQTT-3.3.2-1]", "a topic longer than its packet closes", closes(packet(0x30, 0, 9, 0x47))],
  ["[MQTT-3.3.2-2]", "a wildcard in a topic closes", closes(publishBytes(text("GW_UP/+")))],
  ["[MQTT-4.7.3-1]", "a topic without a character closes", closes(publishBytes(text("")))],
  [
    "[MQTT-3.3.2-3]",
    "the topic of what is delivered is that of what was published",
    async (rig) => {
      const client = await rig.connect();
      await client.subscribe("GW_UP/+/é/#");
      await client.publishAcked("GW_UP//é/a//b/", "x");
      const [message] = await client.untilMessages(1);
      expect(message?.topic).toBe("GW_UP//é/a//b/");
    },
  ],
  [
    "[MQTT-3.3.4-1]",
    "QoS 0 has no answer, QoS 1 a PUBACK, QoS 2 a PUBREC",
    async (rig) => {
      const client = await rig.connect();
      client.autoAck = false;
      client.publish("GW_UP/a", "x", { qos: 0 });
      client.publish("GW_UP/a", "x", { qos: 1, messageId: 1 });
      client.publish("GW_UP/a", "x", { qos: 2, messageId: 2 });
      await client.next("pubrec");
      await client.ping();
      expect(client.packets.map(({ cmd }) => cmd)).toEqual([
        "connack",
        "puback",
        "pubrec",
        "pingresp",
      ]);
    },
  ],
  [
    "[MQTT-3.3.5-1]",
    "of filters that overlap the largest QoS counts",
    async (rig) => {
      const client = await rig.connect();
      await client.subscribe("GW_UP/a", 0);
      await client.subscribe("GW_UP/#", 1);
      await client.publishAcked("GW_UP/a", "x");
      await client.untilMessages(1);
      await client.ping();
      expect(client.messages.map(({ qos }) => qos)).toEqual([1]);
    },
  ],
  [
    "[MQTT-4.3.2-2]",
    "after its PUBACK an id is a new message, whatever its mark",
    async (rig) => {
      const client = await rig.connect();
      await client.subscribe("GW_UP/a", 0);
      await client.publishAcked("GW_UP/a", "one", 5);
      client.publish("GW_UP/a", "two", { messageId: 5, dup: true });
      await client.untilMessages(2);
      expect(client.payloads).toEqual(["one", "two"]);
    },
  ],
  [
    "[MQTT-4.3.3-1]",
    "after a PUBREC the PUBREL is sent, again if need be, and the PUBLISH no more",
    async (rig) => {
      const client = await rig.connect();
      client.autoAck = false;
      await client.subscribe("GW_UP/a", 2);
      client.publish("GW_UP/a", "x", { qos: 2, messageId: 3 });
      const [message] = await client.untilMessages(1);
      const messageId = message?.messageId ?? 0;
      client.send({ cmd: "pubrec", messageId });
      await waitFor(() => client.all("pubrel").length >= 2, { what: "a second PUBREL" });
      client.send({ cmd: "pubcomp", messageId });
      await client.ping();
      expect(client.messages).toHaveLength(1);
      expect(client.all("pubrel")[0]).toMatchObject({ messageId });
    },
  ],
  [
    "[MQTT-4.3.3-2]",
    "a QoS 2 id is the same message until its PUBREL, and a new one after it",
    async (rig) => {
      const client = await rig.connect();
      client.autoAck = false;
      await client.subscribe("GW_UP/a", 0);
      for (const dup of [false, true])
        client.publish("GW_UP/a", "one", { qos: 2, messageId: 7, dup });
      client.send({ cmd: "pubrel", messageId: 7 });
      client.publish("GW_UP/a", "two", { qos: 2, messageId: 7 });
      await waitFor(() => client.all("pubrec").length === 3);
      expect(client.all("pubcomp")).toHaveLength(1);
      expect(client.payloads).toEqual(["one", "two"]);
    },
  ],
  [
    "[MQTT-4.3.3-2]",
    "a PUBREL for nothing gets its PUBCOMP, a PUBREC for nothing its PUBREL",
    async (rig) => {
      const client = await rig.connect();
      client.autoAck = false;
      client.send({ cmd: "pubrel", messageId: 77 });
      client.send({ cmd: "pubrec", messageId: 78 });
      expect(await client.next("pubcomp")).toMatchObject({ messageId: 77 });
      expect(await client.next("pubrel")).toMatchObject({ messageId: 78 });
    },
  ],
  [
    "4.3.2",
    "a PUBACK for nothing is passed over",
    async (rig) => {
      const client = await rig.connect();
      client.send({ cmd: "puback", messageId: 99 });
      client.send({ cmd: "pubcomp", messageId: 99 });
      await client.ping();
    },
  ],
  [
    "[MQTT-4.6.0-6]",
    "messages of one topic and QoS arrive in the order in which they were sent",
    async (rig) => {
      const subscriber = await rig.connect();
      await subscriber.subscribe("GW_UP/a");
      const sender = await rig.connect({ clientId: "GID_demo@@@sender" });
      const sent = Array.from({ length: 500 }, (_, i) => String(i + 1));
      for (const [i, payload] of sent.entries())
        sender.publish("GW_UP/a", payload, { messageId: i + 1 });
      await subscriber.untilMessages(500);
      expect(subscriber.payloads).toEqual(sent);
    },
  ],
]);

points("SUBSCRIBE and UNSUBSCRIBE (3.8 to 3.11)", [
  ["[MQTT-3.8.3-3]", "a SUBSCRIBE without a filter closes", closes(packet(0x82, 0, 1))],
  ["[MQTT-3.8.3-4]", "a requested QoS of 3 closes", closes(subscribeBytes(text("GW_UP"), 3))],
  ["[MQTT-3.8.3-4]", "reserved bits of the QoS close", closes(subscribeBytes(text("GW_UP"), 0x41))],
  ["3.8.3", "a filter without its QoS closes", closes(packet(0x82, 0, 1, text("GW_UP")))],
  [
    "[MQTT-3.8.4-3]",
    "a filter asked for again is replaced, and nothing is missed meanwhile",
    async (rig) => {
      const client = await rig.connect();
      expect(await client.subscribe("GW_UP/a", 0)).toEqual([0]);
      const sender = await rig.connect({ clientId: "GID_demo@@@sender" });
      for (let i = 1; i <= 200; i++) sender.publish("GW_UP/a", `${i}`, { messageId: i });
      expect(await client.subscribe("GW_UP/a", 1)).toEqual([1]);
      await client.untilMessages(200);
      await client.publishAcked("GW_UP/a", "last");
      await client.untilMessages(201);
      expect(new Set(client.payloads).size).toBe(201);
      expect(client.messages.at(-1)?.qos).toBe(1);
    },
  ],
  [
    "[MQTT-3.8.4-4], [MQTT-3.8.4-5], [MQTT-3.9.3-1], [MQTT-3.9.3-2]",
    "one SUBACK, with a code for each filter in its order",
    async (rig) => {
      const client = await rig.connect();
      const filters = Array.from({ length: 32 }, (_, i) => ({
        topic: `GW_UP/${i}`,
        qos: (i % 3) as 0 | 1 | 2,
      }));
      client.send({ cmd: "subscribe", messageId: 1, subscriptions: filters });
      const suback = await client.next("suback");
      const expected = filters.map(({ qos }, i) => (i < 30 ? qos : 0x80));
      expect("granted" in suback && suback.granted).toEqual(expected);
    },
  ],
  [
    "[MQTT-3.8.4-6]",
    "the smaller of the granted and the published QoS is delivered",
    async (rig) => {
      const client = await rig.connect();
      await client.subscribe("GW_UP/one", 1);
      client.publish("GW_UP/one", "x", { qos: 2, messageId: 1 });
      client.publish("GW_UP/one", "x", { qos: 0 });
      const messages = await client.untilMessages(2);
      expect(messages.map(({ qos }) => qos)).toEqual([1, 0]);
    },
  ],
  ["[MQTT-3.10.3-2]", "an UNSUBSCRIBE without a filter closes", closes(packet(0xa2, 0, 1))],
  ["[MQTT-3.10.3-1]", "ill-formed UTF-8 in it closes", closes(packet(0xa2, 0, 1, badText))],
  [
    "[MQTT-3.10.4-1], [MQTT-3.10.4-2]",
    "the filter that is the same character for character ends, and no other",
    async (rig) => {
      const client = await rig.connect();
      await client.subscribe("GW_UP/+", 0);
      await client.subscribe("GW_UP/a", 0);
      client.send({
        cmd: "unsubscribe",
        messageId: 1,
        unsubscriptions: ["GW_UP/A", "GW_UP/#", "GW_UP/+"],
      });
      await client.next("unsuback");
      await client.publishAcked("GW_UP/a", "yes");
      await client.publishAcked("GW_UP/b", "no");
      await client.ping();
      expect(client.payloads).toEqual(["yes"]);
    },
  ],
  [
    "[MQTT-3.10.4-3]",
    "what is in flight is brought to its end after an UNSUBSCRIBE",
    async (rig) => {
      const client = await rig.connect();
      client.autoAck = false;
      await client.subscribe("GW_UP/a", 1);
      client.publish("GW_UP/a", "x");
      await client.untilMessages(1);
      client.send({ cmd: "unsubscribe", messageId: 9, unsubscriptions: ["GW_UP/a"] });
      const [, again] = await client.untilMessages(2);
      expect(again?.dup).toBe(true);
    },
  ],
  [
    "[MQTT-3.10.4-4], [MQTT-3.10.4-5], [MQTT-3.10.4-6]",
    "one UNSUBACK for many filters, also when none was there",
    async (rig) => {
      const client = await rig.connect();
      client.send({ cmd: "unsubscribe", messageId: 300, unsubscriptions: ["GW_UP/x", "GW_UP/y"] });
      expect(await client.next("unsuback")).toMatchObject({ messageId: 300 });
      await client.ping();
      expect(client.all("unsuback")).toHaveLength(1);
    },
  ],
]);

points("PINGREQ and DISCONNECT (3.12, 3.14)", [
  ["[MQTT-3.12.4-1]", "a PINGREQ gets its PINGRESP", async (rig) => (await rig.connect()).ping()],
  ["3.12.1", "a PINGREQ with a body closes", closes(packet(0xc0, 0))],
  ["[MQTT-3.14.1-1]", "a DISCONNECT with a body closes", closes(packet(0xe0, 0))],
  [
    "[MQTT-3.14.4-3]",
    "after a DISCONNECT the connection is closed, and nothing behind it is processed",
    async (rig) => {
      const witness = await rig.connect({ clientId: "GID_demo@@@witness" });
      await witness.subscribe("GW_UP/#");
      const will = { topic: "GW_UP/will", payload: "x" };
      const client = await rig.connect({ will });
      client.send(Buffer.concat([packet(0xe0), publishBytes(text("GW_UP/a"))]));
      await client.untilClosed();
      await witness.ping();
      expect(witness.messages).toEqual([]);
    },
  ],
]);

/** Filters and topics of section 4.7, below the literal parent that the sheet demands. */
const matching: readonly (readonly [
  clause: string,
  filter: string,
  topic: string,
  matches: boolean,
])[] = [
  ["[MQTT-4.7.1-2]", "GW_UP/a/#", "GW_UP/a", true],
  ["[MQTT-4.7.1-2]", "GW_UP/a/#", "GW_UP/a/b/c", true],
  ["[MQTT-4.7.1-2]", "GW_UP/a/#", "GW_UP/ab", false],
  ["[MQTT-4.7.1-2]", "GW_UP/#", "GW_UP", true],
  ["[MQTT-4.7.1-3]", "GW_UP/+", "GW_UP/a", true],
  ["[MQTT-4.7.1-3]", "GW_UP/+", "GW_UP/a/b", false],
  ["[MQTT-4.7.1-3]", "GW_UP/+", "GW_UP", false],
  ["[MQTT-4.7.1-3]", "GW_UP/+", "GW_UP/", true],
  ["[MQTT-4.7.1-3]", "GW_UP/+/+", "GW_UP//a", true],
  ["[MQTT-4.7.1-3]", "GW_UP/+/b/#", "GW_UP/a/b", true],
  ["[MQTT-4.7.3-4]", "GW_UP/Ä", "GW_UP/Ä", true],
  ["[MQTT-4.7.3-4]", "GW_UP/Ä", "GW_UP/A\u0308", false],
  ["[MQTT-4.7.3-4]", "GW_UP/a", "GW_UP/A", false],
  ["[MQTT-4.7.3-4]", "GW_UP/a", "GW_UP/a/", false],
  ["[MQTT-4.7.3-4]", "GW_UP/a b", "GW_UP/a b", true],
];

describe("topics and filters (4.7)", () => {
  it.each(matching)("%s %s takes %s: %s", async (_clause, filter, topic, matches) => {
    const rig = await startRig();
    const client = await rig.connect();
    await client.subscribe(filter, 0);
    await client.publishAcked(topic, "x");
    await client.ping();
    expect(client.payloads).toEqual(matches ? ["x"] : []);
  });

  it.each([
    ["[MQTT-4.7.1-2]", "GW_UP/#/a"],
    ["[MQTT-4.7.1-2]", "GW_UP/a#"],
    ["[MQTT-4.7.1-3]", "GW_UP/a+"],
    ["[MQTT-4.7.3-1]", ""],
  ])("%s the filter %j closes", async (_clause, filter) => {
    await closes(subscribeBytes(text(filter)))(await startRig());
  });

  it("[MQTT-4.7.2-1] a wildcard takes no control topic", async () => {
    const rig = await startRig();
    const client = await rig.connect();
    await client.subscribe("GW_UP/#", 0);
    await client.publishAcked("$SYS/enableOrderMsg", "{}");
    await client.ping();
    expect(client.messages).toEqual([]);
  });
});
