import { describe, expect, it } from "vitest";
import { startCloud } from "../../support/cloud.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { RawClient } from "../../support/raw-client.ts";
import {
  applyForToken,
  queryToken,
  revokeToken,
  type TokenOrder,
} from "../../support/token-api.ts";
import { waitFor } from "../../support/wait-for.ts";

const device = "GID_demo@@@gw-01";
const username = "Token|AK|mqtt-local";
const HOUR_MS = 3_600_000;

async function start() {
  const clock = new FakeClock();
  const started = await startCloud({}, { clock });
  const token = (order: TokenOrder & { readonly lifeMs?: number } = {}): Promise<string> =>
    applyForToken(started.httpPort, {
      expireTime: clock.wallMs() + (order.lifeMs ?? HOUR_MS),
      ...order,
    });
  const connect = (password: string, clientId = device): Promise<RawClient> =>
    RawClient.connect(started.mqttPort, { clientId, username, password });
  return { ...started, clock, token, connect };
}

/** The payloads that came on a control channel. */
function told(client: RawClient, channel: string): unknown[] {
  return client.messages
    .filter(({ topic }) => topic === `$SYS/${channel}`)
    .map(({ payload }) => JSON.parse(payload.toString()) as unknown);
}

async function untilDenied(client: RawClient): Promise<unknown> {
  await client.untilClosed();
  expect(client.packets.at(-1)).toMatchObject({ cmd: "publish", qos: 0 });
  const notices = told(client, "tokenInvalidNotice");
  expect(notices).toHaveLength(1);
  return notices[0];
}

const upload = (token: string, type = "RW"): string => JSON.stringify({ token, type });

describe("CONNECT in token mode (lmq-protocol 4.2)", () => {
  it("takes one, two or three tokens in any order", async () => {
    const { token, connect } = await start();
    const [r, w, rw] = [
      await token({ actions: "R" }),
      await token({ actions: "W" }),
      await token(),
    ];
    for (const password of [`RW|${rw}`, `W|${w}|R|${r}`, `W|${w}|RW|${rw}|R|${r}`]) {
      const client = await connect(password);
      await client.disconnect();
    }
  });

  it("one bad token spoils the whole set", async () => {
    const { mqttPort, token } = await start();
    const client = await RawClient.open(mqttPort);
    client.sendConnect({ clientId: device, username, password: `R|${await token()}|W|bad` });
    await client.untilClosed();
    expect(client.packets[0]).toMatchObject({ cmd: "connack", returnCode: 5 });
    expect(told(client, "tokenInvalidNotice")).toEqual([{ code: 1, type: "W" }]);
  });

  it("a token is bound to no client id", async () => {
    const { token, connect } = await start();
    const password = `RW|${await token()}`;
    const clients = [await connect(password), await connect(password, "GID_other@@@x")];
    for (const client of clients) await client.publishAcked("GW_UP/a", "x");
  });

  it("an expired and a revoked token are refused with their codes", async () => {
    const { mqttPort, httpPort, clock, token } = await start();
    const [brief, revoked] = [await token({ lifeMs: 60_000 }), await token()];
    await revokeToken(httpPort, revoked);
    await clock.advance(60_000);
    for (const [text, code] of [
      [brief, 2],
      [revoked, 3],
    ] as const) {
      const client = await RawClient.open(mqttPort);
      client.sendConnect({ clientId: device, username, password: `RW|${text}` });
      await client.untilClosed();
      expect(client.packets[0]).toMatchObject({ cmd: "connack", returnCode: 5 });
      expect(told(client, "tokenInvalidNotice")).toEqual([{ code, type: "RW" }]);
    }
  });
});

describe("each publish and subscribe in token mode", () => {
  it("is allowed by R, W and RW tokens on their resources", async () => {
    const { token, connect } = await start();
    const r = await token({ actions: "R", resources: ["GW_DOWN/+/in"] });
    const w = await token({ actions: "W", resources: ["GW_UP/#"] });
    const client = await connect(`R|${r}|W|${w}`);
    expect(await client.subscribe("GW_DOWN/a/in")).toEqual([1]);
    await client.publishAcked("GW_UP/a/b", "x");
    expect(client.closed).toBe(false);
  });

  it.each([
    ["a topic that no resource covers", "publish", "GW_DOWN/x", { code: 4, type: "RW" }],
    ["a filter wider than any resource", "subscribe", "GW_UP/#", { code: 4, type: "RW" }],
    ["P2P without W on the P2P topic", "publish", `GW_DOWN/p2p/${device}`, { code: 4, type: "RW" }],
    ["a parent topic that was not created", "publish", "GW_NONE/a", { code: -1, type: "RW" }],
  ] as const)("%s: its code and the close", async (_, act, topic, notice) => {
    const { token, connect } = await start();
    const resources = ["GW_UP/a/#", "GW_NONE/#"];
    const client = await connect(`RW|${await token({ resources })}`);
    if (act === "publish") client.publish(topic, "x");
    else client.send({ cmd: "subscribe", messageId: 7, subscriptions: [{ topic, qos: 1 }] });
    expect(await untilDenied(client)).toEqual(notice);
    expect([...client.all("puback"), ...client.all("suback")]).toEqual([]);
  });

  it.each([
    ["W", "R", { code: 5, type: "R" }],
    ["R", "RW", { code: 5, type: "RW" }],
  ])(
    "publishing with a token for %s given as %s: code 5 at that packet",
    async (_, type, notice) => {
      const { token, connect } = await start();
      const client = await connect(`${type}|${await token({ actions: "R" })}`);
      await client.subscribe("GW_UP/#");
      client.publish("GW_UP/a", "x");
      expect(await untilDenied(client)).toEqual({ ...notice, type: type === "R" ? "W" : "RW" });
    },
  );

  it("P2P is sent with W on the P2P topic and received with any token", async () => {
    const { token, connect } = await start();
    const sender = await connect(
      `W|${await token({ actions: "W", resources: ["GW_DOWN/p2p/#"] })}`,
      "GID_demo@@@console",
    );
    const target = await connect(`W|${await token({ actions: "W", resources: ["GW_UP/#"] })}`);
    await sender.publishAcked(`GW_DOWN/p2p/${device}`, "command");
    await target.untilMessages(1);
    expect(target.payloads).toEqual(["command"]);
  });

  it("$SYS topics need no resource and no W", async () => {
    const { token, connect } = await start();
    const client = await connect(`R|${await token({ actions: "R", resources: ["GW_UP/a"] })}`);
    await client.publishAcked("$SYS/enableOrderMsg", '{"order":"true"}');
    expect(await client.subscribe("$SYS/tokenExpireNotice")).toEqual([1]);
  });
});

describe("expiry", () => {
  it("fails the next check and closes; until then the connection stays", async () => {
    const { token, connect, clock } = await start();
    const client = await connect(`RW|${await token({ lifeMs: 60_000 })}`);
    await clock.advance(59_999);
    await client.publishAcked("GW_UP/a", "in time");
    await clock.advance(1);
    await client.ping();
    expect(client.closed).toBe(false);
    client.publish("GW_UP/a", "too late");
    expect(await untilDenied(client)).toEqual({ code: 2, type: "RW" });
  });

  it("ends a connection that only receives at the next message, which is kept", async () => {
    const { token, connect, clock, mqttPort } = await start();
    const password = `RW|${await token({ lifeMs: 60_000 })}`;
    const target = await RawClient.connect(mqttPort, {
      ...{ clientId: device, clean: false },
      ...{ username, password },
    });
    await target.subscribe("GW_UP/#");
    await clock.advance(60_000);
    const sender = await RawClient.connect(mqttPort, { clientId: "GID_demo@@@console" });
    await sender.publishAcked("GW_UP/a", "for a reader with a right");
    expect(await untilDenied(target)).toEqual({ code: 2, type: "RW" });
    const again = await connect(`RW|${await token()}`);
    expect(again.packets[0]).toMatchObject({ returnCode: 0 });
    await again.disconnect();
    const persistent = await RawClient.connect(mqttPort, { clientId: device, clean: false });
    expect(persistent.closed).toBe(false);
  });

  it("ends a connection for which something waits at that moment", async () => {
    const { token, clock, mqttPort } = await start();
    const sender = await RawClient.connect(mqttPort, {
      ...{ clientId: "GID_demo@@@console", clean: false },
    });
    const target = await RawClient.connect(mqttPort, {
      ...{ clientId: device, username, password: `RW|${await token({ lifeMs: 60_000 })}` },
    });
    target.autoAck = false;
    await clock.advance(59_999);
    await sender.publishAcked(`GW_DOWN/p2p/${device}`, "waits for its PUBACK");
    await target.untilMessages(2); // The notice came first.
    await clock.advance(1);
    expect(await untilDenied(target)).toEqual({ code: 2, type: "RW" });
    const again = await RawClient.connect(mqttPort, { clientId: device });
    await clock.advance(5_000);
    await again.untilMessages(1);
    expect(again.payloads).toEqual(["waits for its PUBACK"]);
  });

  it("is announced once, token_notice_ahead_ms before", async () => {
    const { token, connect, clock } = await start();
    const expireTime = clock.wallMs() + HOUR_MS;
    const client = await connect(`RW|${await token({ expireTime })}`);
    await clock.advance(HOUR_MS - 300_001);
    await client.ping();
    expect(told(client, "tokenExpireNotice")).toEqual([]);
    await clock.advance(1);
    await client.ping();
    expect(told(client, "tokenExpireNotice")).toEqual([{ expireTime, type: "RW" }]);
    await clock.advance(299_999);
    await client.ping();
    expect(told(client, "tokenExpireNotice")).toHaveLength(1);
  });

  it("is announced for each token by its type", async () => {
    const { token, connect, clock } = await start();
    const r = await token({ actions: "R", lifeMs: 400_000 });
    const w = await token({ actions: "W", lifeMs: 500_000 });
    const client = await connect(`W|${w}|R|${r}`);
    await clock.advance(100_000);
    await client.ping();
    expect(told(client, "tokenExpireNotice")).toMatchObject([{ type: "R" }]);
    await clock.advance(100_000);
    await client.ping();
    expect(told(client, "tokenExpireNotice")).toMatchObject([{ type: "R" }, { type: "W" }]);
  });
});

describe("$SYS/uploadToken (lmq-protocol 4.5)", () => {
  it("puts the token in force before its PUBACK", async () => {
    const { token, connect } = await start();
    const client = await connect(`RW|${await token({ resources: ["GW_UP/a"] })}`);
    const wider = await token({ resources: ["GW_UP/#"] });
    client.publish("$SYS/uploadToken", upload(wider), { messageId: 1 });
    client.publish("GW_UP/b", "x", { messageId: 2 });
    await waitFor(() => client.all("puback").length === 2, { what: "both PUBACKs" });
    expect(client.messages).toEqual([]);
  });

  it("replaces the token of its type and leaves the others", async () => {
    const { token, connect } = await start();
    const r = await token({ actions: "R", resources: ["GW_DOWN/#"] });
    const w = await token({ actions: "W", resources: ["GW_UP/a"] });
    const client = await connect(`R|${r}|W|${w}`);
    const next = await token({ actions: "W", resources: ["GW_UP/b"] });
    await client.publishAcked("$SYS/uploadToken", upload(next, "W"));
    expect(await client.subscribe("GW_DOWN/#")).toEqual([1]);
    await client.publishAcked("GW_UP/b", "new", 2);
    client.publish("GW_UP/a", "old", { messageId: 3 });
    expect(await untilDenied(client)).toEqual({ code: 4, type: "W" });
  });

  it("saves a connection whose token has expired already", async () => {
    const { token, connect, clock } = await start();
    const client = await connect(`RW|${await token({ lifeMs: 60_000 })}`);
    await clock.advance(70_000);
    await client.publishAcked("$SYS/uploadToken", upload(await token()));
    await client.publishAcked("GW_UP/a", "x", 2);
  });

  it("five lifetimes of a token pass without one disconnection", async () => {
    const { token, connect, clock, cloud } = await start();
    const lifeMs = 400_000;
    const client = await connect(`RW|${await token({ lifeMs })}`);
    for (let life = 1; life <= 5; life++) {
      await clock.advance(lifeMs - 300_000);
      await waitFor(() => told(client, "tokenExpireNotice").length === life, { what: "a notice" });
      await client.publishAcked("$SYS/uploadToken", upload(await token({ lifeMs })), 100 + life);
      // Past the end of the token that was replaced, and before the next notice.
      await clock.advance(300_000);
      await client.publishAcked("GW_UP/a", `life ${life}`, life);
    }
    expect(client.closed).toBe(false);
    expect(told(client, "tokenInvalidNotice")).toEqual([]);
    expect(cloud.stats.connected).toBe(1);
  });

  it.each([
    ["no JSON", () => "nonsense", { code: 1, type: "RW" }],
    ["a forged token", () => upload("AAAA", "R"), { code: 1, type: "R" }],
    ["a type that is none", () => upload("AAAA", "X"), { code: 1, type: "RW" }],
  ])("%s: PUBACK, then the notice, then the close", async (_, payload, notice) => {
    const { token, connect } = await start();
    const client = await connect(`RW|${await token()}`);
    client.publish("$SYS/uploadToken", payload());
    expect(await untilDenied(client)).toEqual(notice);
    expect(client.packets.map(({ cmd }) => cmd)).toEqual(["connack", "puback", "publish"]);
  });

  it("an expired or a revoked token is refused by its own code", async () => {
    const { token, connect, clock, httpPort } = await start();
    const [brief, revoked] = [await token({ lifeMs: 60_000 }), await token()];
    await revokeToken(httpPort, revoked);
    await clock.advance(60_000);
    for (const [text, code] of [
      [brief, 2],
      [revoked, 3],
    ] as const) {
      const client = await connect(`RW|${await token()}`);
      client.publish("$SYS/uploadToken", upload(text));
      expect(await untilDenied(client)).toEqual({ code, type: "RW" });
    }
  });

  it("is taken from a client in signature mode, without effect", async () => {
    const { mqttPort } = await start();
    const client = await RawClient.connect(mqttPort, { clientId: device });
    await client.publishAcked("$SYS/uploadToken", "nonsense");
    await client.publishAcked("GW_UP/a", "x", 2);
  });
});

describe("revocation", () => {
  it("reaches the connections that live on the token at once, and no other", async () => {
    const { token, connect, httpPort } = await start();
    const [bad, good] = [await token(), await token()];
    const hit = await connect(`RW|${bad}`);
    const spared = await connect(`RW|${good}`, "GID_demo@@@gw-02");
    expect(await revokeToken(httpPort, bad)).toMatchObject({ code: 200, success: true });
    expect(await untilDenied(hit)).toEqual({ code: 3, type: "RW" });
    await spared.publishAcked("GW_UP/a", "x");
    expect(await queryToken(httpPort, bad)).toMatchObject({ code: 3, success: false });
  });

  it("of a token that was replaced by a new one leaves the connection alone", async () => {
    const { token, connect, httpPort } = await start();
    const old = await token();
    const client = await connect(`RW|${old}`);
    await client.publishAcked("$SYS/uploadToken", upload(await token()));
    await revokeToken(httpPort, old);
    await client.publishAcked("GW_UP/a", "x", 2);
  });
});
