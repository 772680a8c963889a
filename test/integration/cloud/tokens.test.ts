/**
 * Token mode as a program of the vendor's customers uses it: MQTT.js, the token API over fetch, and
 * the service as a process of its own with its database.
 */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { connectAsync, type IClientOptions, type MqttClient } from "mqtt";
import { describe, expect, it, onTestFinished } from "vitest";
import { startCloud } from "../../support/cloud.ts";
import { spawnCloud } from "../../support/cloud-process.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { tempDir } from "../../support/temp-dir.ts";
import {
  applyForToken,
  callTokenApi,
  type TokenOrder,
  tokenFields,
} from "../../support/token-api.ts";
import { waitFor } from "../../support/wait-for.ts";

const device = "GID_demo@@@gw-01";

interface Device {
  readonly client: MqttClient;
  /** What came on `$SYS/NAME`. */
  told(name: string): unknown[];
  /** How often the connection ended. */
  ends: number;
}

async function connectDevice(port: number, options: IClientOptions): Promise<Device> {
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, {
    ...{ protocolVersion: 4, clientId: device, username: "Token|AK|mqtt-local" },
    ...{ reconnectPeriod: 0, clean: true },
    ...options,
  });
  const messages: { readonly topic: string; readonly body: unknown }[] = [];
  const one: Device = {
    client,
    told: (name) =>
      messages.filter(({ topic }) => topic === `$SYS/${name}`).map(({ body }) => body),
    ends: 0,
  };
  client.on("message", (topic, payload) => {
    if (topic.startsWith("$SYS/")) messages.push({ topic, body: JSON.parse(payload.toString()) });
  });
  client.on("close", () => one.ends++);
  client.on("error", () => undefined);
  onTestFinished(() => {
    client.end(true);
  });
  return one;
}

const upload = (token: string): string => JSON.stringify({ token, type: "RW" });

describe("MQTT.js with tokens", () => {
  it("renews over five lifetimes of a token without one disconnection", async () => {
    // The service's clock is the test's: on a slow machine a lifetime lasts as long as it must.
    const clock = new FakeClock();
    const timings = { tokenNoticeAheadMs: 20_000 };
    const { httpPort, mqttPort } = await startCloud({ timings }, { clock });
    const lifeMs = 60_000;
    const next = (): Promise<string> =>
      applyForToken(httpPort, { expireTime: clock.wallMs() + lifeMs });
    const one = await connectDevice(mqttPort, { password: `RW|${await next()}` });
    const { client, told } = one;
    const began = clock.monotonicMs();
    let renewals = 0;
    // As a device does: on each notice it gets a token, uploads it, and only then goes on.
    while (clock.monotonicMs() - began < 5 * lifeMs) {
      await clock.advance(lifeMs - timings.tokenNoticeAheadMs);
      await waitFor(() => told("tokenExpireNotice").length > renewals, { what: "a notice" });
      await client.publishAsync("$SYS/uploadToken", upload(await next()), { qos: 1 });
      renewals++;
      await client.publishAsync("GW_UP/a", `${renewals}`, { qos: 1 });
    }
    expect(renewals).toBeGreaterThanOrEqual(5);
    expect(told("tokenExpireNotice")).toHaveLength(renewals);
    expect(told("tokenInvalidNotice")).toEqual([]);
    expect(one.ends).toBe(0);
    expect(client.connected).toBe(true);
  });

  it.each<[string, TokenOrder, "publish" | "expire" | "revoke" | "forge", number]>([
    ["an expired token", {}, "expire", 2],
    ["a revoked token", {}, "revoke", 3],
    ["a forged token", {}, "forge", 1],
    ["a token for other topics", { resources: ["GW_DOWN/#"] }, "publish", 4],
    ["a token for reading alone", { actions: "R" }, "publish", 5],
  ])("%s on a live connection: its code, then the close", async (_, order, act, code) => {
    const clock = new FakeClock();
    const { httpPort, mqttPort } = await startCloud({}, { clock });
    const expireTime = clock.wallMs() + 60_000;
    const token = await applyForToken(httpPort, { ...order, expireTime });
    const { client, told } = await connectDevice(mqttPort, { password: `RW|${token}` });
    const closed = new Promise<void>((resolve) => client.once("close", () => resolve()));
    if (act === "revoke") await callTokenApi(httpPort, "revoke", tokenFields(token));
    else if (act === "forge") {
      client.publish("$SYS/uploadToken", upload(`${token.slice(0, -8)}AAAAAAA=`));
    } else {
      if (act === "expire") await clock.advance(60_001);
      client.publish("GW_UP/a", "x", { qos: 1 });
    }
    await closed;
    expect(told("tokenInvalidNotice")).toEqual([{ code, type: "RW" }]);
  });

  it("a bad token at CONNECT is answered with code 5", async () => {
    const { mqttPort } = await startCloud();
    await expect(connectDevice(mqttPort, { password: "RW|forged" })).rejects.toMatchObject({
      code: 5,
    });
  });

  it("or reconnects with the new token, on which its session and its rights go on", async () => {
    const { httpPort, mqttPort } = await startCloud();
    const first = await applyForToken(httpPort, { resources: ["GW_UP/a"] });
    const one = await connectDevice(mqttPort, { password: `RW|${first}`, clean: false });
    await one.client.subscribeAsync("GW_UP/a", { qos: 1 });
    await one.client.endAsync();
    const second = await applyForToken(httpPort, { resources: ["GW_UP/b"] });
    const two = await connectDevice(mqttPort, { password: `RW|${second}`, clean: false });
    await two.client.publishAsync("GW_UP/b", "x", { qos: 1 });
    expect(two.client.connected).toBe(true);
  });
});

describe("the service as a process", () => {
  it("keeps tokens and revocations over kill -9, its key readable to its owner alone", async () => {
    const dir = await tempDir();
    const before = await spawnCloud(dir);
    const toml = await readFile(join(dir, "cloud.toml"), "utf8");
    const [, accessKey = ""] = /access_key = "(.+)"/.exec(toml) ?? [];
    const [, secret = ""] = /secret = "(.+)"/.exec(toml) ?? [];
    const order = { accessKey, secret };
    const good = await applyForToken(before.httpPort, order);
    const bad = await applyForToken(before.httpPort, order);
    const badFields = tokenFields(bad, accessKey, secret);
    expect(await callTokenApi(before.httpPort, "revoke", badFields)).toMatchObject({ code: 200 });
    expect(await before.kill("SIGKILL")).toBe("SIGKILL");
    expect((await stat(join(dir, "token.key"))).mode & 0o777).toBe(0o600);

    const after = await spawnCloud(dir);
    expect(await callTokenApi(after.httpPort, "query", badFields)).toMatchObject({ code: 3 });
    const username = `Token|${accessKey}|mqtt-local`;
    const { client } = await connectDevice(after.mqttPort, { username, password: `RW|${good}` });
    await client.publishAsync("GW_UP/a", "x", { qos: 1 });
    await expect(
      connectDevice(after.mqttPort, { username, password: `RW|${bad}` }),
    ).rejects.toMatchObject({ code: 5 });
  });
});
