import { describe, expect, it } from "vitest";
import type { LogFields, Logger } from "../../../agent/core/log.ts";
import type { Directory } from "../../../cloud/cloud.ts";
import { startCloud } from "../../support/cloud.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { MemoryStore } from "../../support/memory-store.ts";
import { RawClient } from "../../support/raw-client.ts";
import {
  applyFields,
  applyForToken,
  callTokenApi,
  type Fields,
  queryToken,
  revokeToken,
  signature,
  tokenFields,
} from "../../support/token-api.ts";

type Path = "apply" | "query" | "revoke";

type Way = (url: string, fields: Fields) => Promise<Response>;

/** Every way in which the vendor's programs ask (lmq-protocol 4.3). */
const ways: [string, Way][] = [
  ["GET", (url, fields) => fetch(`${url}?${new URLSearchParams(fields)}`)],
  [
    "a urlencoded POST",
    (url, fields) => fetch(url, { method: "POST", body: new URLSearchParams(fields) }),
  ],
  [
    "a multipart POST",
    (url, fields) => {
      const body = new FormData();
      for (const [name, value] of Object.entries(fields)) body.append(name, value);
      return fetch(url, { method: "POST", body });
    },
  ],
  [
    "a POST with a query",
    (url, fields) => fetch(`${url}?${new URLSearchParams(fields)}`, { method: "POST" }),
  ],
];

async function post(port: number, path: Path, body: string | Buffer, contentType?: string) {
  const response = await fetch(`http://127.0.0.1:${port}/token/${path}`, {
    method: "POST",
    body,
    headers: contentType === undefined ? {} : { "content-type": contentType },
  });
  return { status: response.status, body: (await response.json()) as { code: number } };
}

describe("the token API (lmq-protocol 4.3)", () => {
  it.each(ways)("answers %s", async (_, way) => {
    const { httpPort } = await startCloud();
    const ask = async (path: Path, fields: Fields): Promise<unknown> => {
      const response = await way(`http://127.0.0.1:${httpPort}/token/${path}`, fields);
      expect(response.status).toBe(200);
      return await response.json();
    };
    const applied = await ask("apply", applyFields());
    const message = expect.any(String) as unknown;
    const tokenData = expect.stringMatching(/^[^|]+$/) as unknown;
    expect(applied).toEqual({ success: true, message, code: 200, tokenData });
    const { tokenData: token } = applied as { readonly tokenData: string };
    const done = { success: true, message, code: 200 };
    expect(await ask("query", tokenFields(token))).toEqual(done);
    expect(await ask("revoke", tokenFields(token))).toEqual(done);
    expect(await ask("query", tokenFields(token))).toEqual({ success: false, message, code: 3 });
  });

  it("refuses with HTTP 200 and the code in the body, without tokenData", async () => {
    const { httpPort } = await startCloud();
    const refused = await post(httpPort, "apply", "actions=R", "application/x-www-form-urlencoded");
    expect(refused).toEqual({
      status: 200,
      body: { success: false, message: expect.stringContaining("resources") as unknown, code: 400 },
    });
    const fields = { ...applyFields(), signature: "AAAA" };
    expect(await callTokenApi(httpPort, "apply", fields)).toMatchObject({ code: 407 });
    expect(
      await callTokenApi(httpPort, "apply", applyFields({ accessKey: "NOBODY" })),
    ).toMatchObject({ code: 407 });
  });

  it.each([
    ["JSON", "application/json", JSON.stringify(applyFields())],
    ["a form with a broken escape", "application/x-www-form-urlencoded", "actions=%zz"],
    ["a multipart body that ends early", "multipart/form-data; boundary=x", "--x\r\nContent-"],
    ["a multipart body without a boundary", "multipart/form-data", "--x--"],
    [
      "a file in place of a parameter",
      "multipart/form-data; boundary=x",
      '--x\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n1\r\n--x--\r\n',
    ],
  ])("%s is answered 400", async (_, contentType, body) => {
    const { httpPort } = await startCloud();
    expect(await post(httpPort, "apply", body, contentType)).toMatchObject({
      ...{ status: 200, body: { code: 400 } },
    });
  });

  it("a file beside the parameters is answered 400", async () => {
    const { httpPort } = await startCloud();
    const body = new FormData();
    for (const [name, value] of Object.entries(applyFields())) body.append(name, value);
    body.append("file", new Blob(["x"]), "x.txt");
    const url = `http://127.0.0.1:${httpPort}/token/apply`;
    const response = await fetch(url, { method: "POST", body });
    expect(await response.json()).toMatchObject({ code: 400 });
  });

  it("a parameter both in query and body is doubled: 400", async () => {
    const { httpPort } = await startCloud();
    const response = await fetch(`http://127.0.0.1:${httpPort}/token/apply?actions=R`, {
      method: "POST",
      body: new URLSearchParams(applyFields()),
    });
    expect(await response.json()).toMatchObject({ code: 400 });
  });

  it("a token that was not URL-encoded fails its signature: a plus sign is a space then", async () => {
    const { httpPort } = await startCloud();
    const token = "AbC+/dEf012==";
    const body = `token=${token}&accessKey=AK&signature=${encodeURIComponent(signature("SK", { token }))}`;
    const answer = await post(httpPort, "query", body, "application/x-www-form-urlencoded");
    expect(answer.body.code).toBe(407);
    expect(await queryToken(httpPort, token)).toMatchObject({ code: 1 });
  });

  it("answers other methods with 400", async () => {
    const { httpPort } = await startCloud();
    const response = await fetch(`http://127.0.0.1:${httpPort}/token/query`, { method: "PUT" });
    expect(await response.json()).toMatchObject({ code: 400, success: false });
  });

  it("query tells forged (1), expired (2) and revoked (3) tokens apart", async () => {
    const clock = new FakeClock();
    const { httpPort } = await startCloud({}, { clock });
    const expireTime = clock.wallMs() + 60_000;
    const brief = await applyForToken(httpPort, { expireTime });
    const revoked = await applyForToken(httpPort, { expireTime: expireTime + 60_000 });
    await revokeToken(httpPort, revoked);
    await clock.advance(60_000);
    const answers = [];
    for (const token of ["forged", brief, revoked]) answers.push(await queryToken(httpPort, token));
    expect(answers.map(({ code, success }) => [code, success])).toEqual([
      [1, false],
      [2, false],
      [3, false],
    ]);
  });

  it("a token over the longest CONNECT is 409, a revocation that fails 410", async () => {
    const store = new MemoryStore();
    const limits = { topicMax: 1_000 };
    const { httpPort } = await startCloud({ limits }, { store });
    const resources = Array.from({ length: 100 }, () =>
      Buffer.from(Array.from({ length: 700 }, () => Math.floor(Math.random() * 256))).toString(
        "base64url",
      ),
    );
    const answer = await callTokenApi(httpPort, "apply", applyFields({ resources }));
    expect(answer).toMatchObject({ code: 409, success: false });
    expect(await revokeToken(httpPort, "forged")).toMatchObject({ code: 410, success: false });
    const token = await applyForToken(httpPort);
    store.failCommits(1);
    expect(await revokeToken(httpPort, token)).toMatchObject({ code: 410 });
    expect(await queryToken(httpPort, token)).toMatchObject({ code: 200 });
    expect(await revokeToken(httpPort, token)).toMatchObject({ code: 200 });
  });

  it("a token is nobody else's: for another account it is forged and not to be revoked", async () => {
    const directory: Directory = {
      accounts: new Map([
        ["AK", "SK"],
        ["BK", "TK"],
      ]),
      ...{ instanceId: "mqtt-local", groups: new Set(["GID_demo"]), topics: new Map() },
    };
    const { httpPort } = await startCloud({ directory });
    const token = await applyForToken(httpPort);
    const foreign = tokenFields(token, "BK", "TK");
    expect(await callTokenApi(httpPort, "query", foreign)).toMatchObject({ code: 1 });
    expect(await callTokenApi(httpPort, "revoke", foreign)).toMatchObject({ code: 410 });
    expect(await queryToken(httpPort, token)).toMatchObject({ code: 200 });
  });

  it("counts each account's signed requests, and lets go after the window", async () => {
    const clock = new FakeClock();
    const limits = {
      ...{ tokenAppliesPerSecond: 2, tokenQueriesPerSecond: 1, tokenRevokesPerMinute: 1 },
    };
    const { httpPort } = await startCloud({ limits }, { clock });
    const order = { expireTime: clock.wallMs() + 3_600_000 };
    const unsigned = { ...applyFields(order), signature: "AAAA" };
    expect(await callTokenApi(httpPort, "apply", unsigned)).toMatchObject({ code: 407 });
    const [one, two] = [await applyForToken(httpPort, order), await applyForToken(httpPort, order)];
    expect(await callTokenApi(httpPort, "apply", applyFields(order))).toMatchObject({ code: 409 });
    expect(await queryToken(httpPort, one)).toMatchObject({ code: 200 });
    expect(await queryToken(httpPort, one)).toMatchObject({ code: 400, success: false });
    expect(await revokeToken(httpPort, one)).toMatchObject({ code: 200 });
    expect(await revokeToken(httpPort, two)).toMatchObject({ code: 410 });
    await clock.advance(1_000);
    expect(await queryToken(httpPort, two)).toMatchObject({ code: 200 });
    expect(await callTokenApi(httpPort, "apply", applyFields(order))).toMatchObject({ code: 200 });
    await clock.advance(59_000);
    expect(await revokeToken(httpPort, two)).toMatchObject({ code: 200 });
  });

  it("no token, secret or signature is in a log line, whatever goes wrong", async () => {
    const lines: string[] = [];
    const line = (event: string, fields?: LogFields): void => {
      lines.push(JSON.stringify([event, fields]));
    };
    const log: Logger = { debug: line, info: line, warn: line, error: line, child: () => log };
    const store = new MemoryStore();
    const { httpPort, mqttPort } = await startCloud({}, { log, store });
    const token = await applyForToken(httpPort, { secret: "SK" });
    const username = "Token|AK|mqtt-local";
    const client = await RawClient.connect(mqttPort, {
      ...{ clientId: "GID_demo@@@gw-01", username, password: `RW|${token}` },
    });
    client.publish("$SYS/uploadToken", JSON.stringify({ token: `${token}x`, type: "RW" }));
    await client.untilClosed();
    const refused = await RawClient.open(mqttPort);
    refused.sendConnect({ clientId: "GID_demo@@@gw-01", username, password: `R|${token}|W|x` });
    await refused.untilClosed();
    store.failCommits(1);
    await revokeToken(httpPort, token);
    await revokeToken(httpPort, token);
    await queryToken(httpPort, token);
    expect(lines.join("\n")).toContain("token revoked");
    const secrets = [token, token.slice(0, 40), signature("SK", { token })];
    for (const secret of secrets) {
      expect(lines.filter((text) => text.includes(secret))).toEqual([]);
    }
  });
});
