/** `holdfast token` against the local service, and against servers that are none. */

import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { startCloud } from "../../support/cloud.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { RawClient } from "../../support/raw-client.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { cli } from "./fixture.ts";

const APPLY = ["apply", "--resources", "GW_UP/#,GW_DOWN/p2p/#", "--actions", "W,R"];

/** `token ...` with an account of the service at this port. */
async function desk(httpPort: number, options: { account?: boolean; secret?: string } = {}) {
  const file = join(await tempDir(), "commander.toml");
  const account = `[account]
access_key = "AK"
secret = "${options.secret ?? "SK"}"
http = "http://127.0.0.1:${httpPort}"
`;
  const base = `[device]
client_id = "GID_demo@@@console"
[service]
endpoints = ["mqtt://127.0.0.1:1"]
instance_id = "mqtt-local"
[auth]
access_key = "AK"
secret = "SK"
`;
  await writeFile(file, base + (options.account === false ? "" : account), { mode: 0o600 });
  return (words: readonly string[], stdin?: string) =>
    cli(["token", ...words, "--config", file], {
      env: { HOME: "/nowhere" },
      ...(stdin === undefined ? {} : { stdin: [stdin] }),
    });
}

/** The service, with the same time as the command line of the tests. */
const start = () => startCloud({}, { clock: new FakeClock() });

/** A server that answers everything with this. */
async function answering(status: number, body: string): Promise<number> {
  const server = createServer((request, response) => {
    request.resume();
    response.writeHead(status).end(body);
  });
  onTestFinished(() => void server.close());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

test("apply prints a token that opens what was asked for, until revoke ends it", async () => {
  const { httpPort, mqttPort } = await start();
  const token = await desk(httpPort);
  const applied = await token([...APPLY, "--expires-in", "3600"]);
  expect(applied).toMatchObject({ status: 0, err: "" });
  expect(applied.out).toMatch(/^[A-Za-z0-9+/=]+\n$/);
  const text = applied.out.trim();
  expect(await token(["query", text])).toEqual({ status: 0, out: "valid\n", err: "" });
  const device = await RawClient.connect(mqttPort, {
    ...{ clientId: "GID_demo@@@gw-01", username: "Token|AK|mqtt-local", password: `RW|${text}` },
  });
  await device.publishAcked("GW_UP/a", "x");
  expect(await token(["revoke", "-"], `${text}\n`)).toMatchObject({ status: 0, out: "revoked\n" });
  await device.untilClosed();
  expect(await token(["query", text, "--json"])).toMatchObject({
    ...{ status: 1, out: '{"state":"revoked"}\n' },
  });
});

test("apply --json tells when the token ends", async () => {
  const { httpPort } = await start();
  const token = await desk(httpPort);
  const { out } = await token(["apply", "--resources", "GW_UP/a", "--expires-in", "60", "--json"]);
  expect(JSON.parse(out)).toEqual({
    ...{ token: expect.any(String) as unknown, expiresAt: new FakeClock().wallMs() + 60_000 },
  });
});

test.each([
  ["no resources", ["apply", "--expires-in", "60"], "give --resources"],
  ["no life", ["apply", "--resources", "GW_UP/#"], "give --expires-in"],
  ["an action that is none", ["apply", "--actions", "X"], "expected R, W or R,W"],
  ["an action twice", ["apply", "--actions", "R,R"], "expected R, W or R,W"],
  ["an empty resource", ["apply", "--resources", "GW_UP/#,"], "joined with commas"],
  ["an empty stdin", ["query", "-"], "no token came on stdin"],
])("%s is wrong usage: exit 2", async (_, words, message) => {
  const token = await desk(1);
  const { status, err } = await token(words, "");
  expect(status).toBe(2);
  expect(err).toContain(message);
});

test("without an account: exit 2, and what is missing", async () => {
  const token = await desk(1, { account: false });
  const { status, err } = await token(["query", "x"]);
  expect(status).toBe(2);
  expect(err).toContain("[account]");
});

test("what the service refuses is exit 1 with its code, and never shows a secret", async () => {
  const { httpPort } = await start();
  const token = await desk(httpPort);
  const brief = await token(["apply", "--resources", "GW_UP/#", "--expires-in", "1"]);
  expect(brief).toMatchObject({ status: 1, err: expect.stringContaining("code 400") });
  expect(await token(["query", "forged"])).toMatchObject({ status: 1, out: "forged\n" });
  expect(await token(["revoke", "forged"])).toMatchObject({
    ...{ status: 1, err: expect.stringContaining("code 410") },
  });
  const wrong = await desk(httpPort, { secret: "not-the-secret" });
  const refused = await wrong(["query", "forged"]);
  expect(refused).toMatchObject({ status: 1, err: expect.stringContaining("code 407") });
  expect(refused.err).not.toContain("not-the-secret");
});

test("a service that is not there is exit 3", async () => {
  const port = await answering(200, "");
  const gone = await startCloud();
  await gone.stop();
  expect((await (await desk(gone.httpPort))(["query", "x"])).status).toBe(3);
  expect((await (await desk(port))(["query", "x"])).status).toBe(1);
});

test.each([
  ["no JSON", "hello"],
  ["no code", "{}"],
  ["success without a token", '{"success":true,"code":200,"message":""}'],
  ["far too much", `{"code":200,"tokenData":"${"x".repeat(100_000)}"}`],
])("an answer with %s is none: exit 1", async (_, body) => {
  const token = await desk(await answering(200, body));
  const { status, out, err } = await token([...APPLY, "--expires-in", "60"]);
  expect({ status, out }).toEqual({ status: 1, out: "" });
  expect(err).toContain("is not the answer of such a service");
});
