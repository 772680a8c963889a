/** The status query against a server that answers rightly, wrongly, too much or not at all. */
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { silentLog } from "../../../agent/core/log.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { verifyHttpSignature } from "../../../agent/protocol/http-signature.ts";
import { Commander, systemProcesses } from "../../../cloud/operator/operator.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";
import { controller, never } from "./rig.ts";

const clock = new FakeClock({ wallMs: 1_568_419_200_000 });

test("asks as lmq-protocol 7.1 says: signed, one device a request, encoded", async () => {
  const seen: URLSearchParams[] = [];
  const commander = await asking((request, response) => {
    const url = new URL(request.url ?? "", "http://x");
    expect(url.pathname).toBe("/route/clientId/get");
    expect(request.method).toBe("GET");
    expect(url.search).not.toMatch(/[@+]/);
    seen.push(url.searchParams);
    response.end(JSON.stringify({ code: 0, success: true, online: 2, message: "" }));
  });
  const found = await commander.presence(["gw-01", "GID_other@@@gw-02"], never);
  expect(found).toEqual([
    { device: "GID_demo@@@gw-01", online: true, connections: 2, source: "status-query" },
    { device: "GID_other@@@gw-02", online: true, connections: 2, source: "status-query" },
  ]);
  for (const { signature = "", ...parameters } of seen.map((all) => Object.fromEntries(all))) {
    expect(parameters).toMatchObject({ accessKey: "AK", timestamp: String(clock.wallMs()) });
    expect(verifyHttpSignature({ secret: "SK", parameters, signature })).toBe(true);
  }
});

test.each([
  [0, false, 0],
  [1, true, 1],
  [7, true, 7],
  [-1, null, null],
])("online %d means %s", async (online, expected, connections) => {
  const commander = await answering({ code: 0, online });
  expect(await commander.presence(["gw-01"], never)).toMatchObject([
    { online: expected, connections },
  ]);
});

test("many devices are asked a few at a time, and answered in their order", async () => {
  let active = 0;
  let most = 0;
  const commander = await asking((request, response) => {
    most = Math.max(most, ++active);
    const resource = new URL(request.url ?? "", "http://x").searchParams.get("resource") ?? "";
    setImmediate(() => {
      active--;
      response.end(JSON.stringify({ code: 0, online: Number(resource.slice(-2)) }));
    });
  });
  const devices = Array.from({ length: 40 }, (_, i) => `gw-${String(i).padStart(2, "0")}`);
  const found = await commander.presence(devices, never);
  expect(found.map(({ connections }) => connections)).toEqual(devices.map((_, i) => i));
  expect(most).toBeLessThanOrEqual(8);
});

test("a device that the account may not ask about does not hide the others", async () => {
  const commander = await asking((request, response) => {
    const foreign = request.url?.includes("foreign") ?? false;
    response.statusCode = foreign ? 403 : 200;
    response.end(JSON.stringify(foreign ? { code: 3, message: "no" } : { code: 0, online: 1 }));
  });
  expect(await commander.presence(["foreign", "gw-01"], never)).toMatchObject([
    { online: null, error: { code: "forbidden" } },
    { online: true },
  ]);
});

test.each([
  ["a wrong signature", { code: 2, message: "signature" }, "rejected_by_service"],
  ["a wrong clock", { code: 4, message: "timestamp" }, "rejected_by_service"],
  ["no code", { online: 1 }, "protocol_error"],
  ["no number", { code: 0, online: "1" }, "protocol_error"],
  ["a list", [], "protocol_error"],
  ["a page of somebody else", "<html>", "protocol_error"],
  ["endless text", "x".repeat(1_000_000), "protocol_error"],
  ["depth", "[".repeat(10_000), "protocol_error"],
])("%s is an error and no answer", async (_, body, code) => {
  const commander = await answering(body);
  await expect(commander.presence(["gw-01"], never)).rejects.toMatchObject({ code });
});

test("a redirect is not followed: the signature stays with the service it was made for", async () => {
  let followed = false;
  const elsewhere = await serve(() => {
    followed = true;
  });
  const commander = await asking((_, response) => {
    response.writeHead(302, { location: `${elsewhere}/route/clientId/get` });
    response.end();
  });
  await expect(commander.presence(["gw-01"], never)).rejects.toMatchObject({
    code: "unreachable",
  });
  expect(followed).toBe(false);
});

test("a service that never answers is given up, one that is not there is named", async () => {
  let asked = false;
  const slow = await asking(() => {
    asked = true;
  });
  const waiting = slow.presence(["gw-01"], never).catch((error: unknown) => error);
  await waitFor(() => asked);
  await clock.advance(10_000);
  expect(await waiting).toMatchObject({ code: "timed_out" });

  const absent = await commanderFor("http://127.0.0.1:1");
  await expect(absent.presence(["gw-01"], never)).rejects.toMatchObject({
    code: "unreachable",
    message: expect.stringContaining("127.0.0.1:1"),
  });
});

test("a person who gives up ends the query", async () => {
  const person = controller();
  const commander = await asking(() => person.abort());
  await expect(commander.presence(["gw-01"], person.signal)).rejects.toMatchObject({
    code: "cancelled",
  });
});

test("the secret is in no message, whatever goes wrong", async () => {
  for (const body of [{ code: 2 }, "<html>", { code: 0 }]) {
    const commander = await answering(body);
    const error = await commander.presence(["gw-01"], never).catch((caught: unknown) => caught);
    expect(String(error)).not.toMatch(/SK|signature=/);
  }
});

async function answering(body: unknown): Promise<Commander> {
  return asking((_, response) => {
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  });
}

async function asking(listener: RequestListener): Promise<Commander> {
  return commanderFor(await serve(listener));
}

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function commanderFor(http: string): Promise<Commander> {
  return new Commander(
    {
      clientId: "GID_demo@@@console",
      profile: "lmq",
      down: "GW_DOWN",
      topicMax: 128,
      stateDir: await tempDir(),
      account: { accessKey: "AK", secret: () => "SK", http, instanceId: "mqtt-local" },
    },
    {
      clock,
      random: new SystemRandom(),
      log: silentLog,
      processes: systemProcesses,
      connect: () => {
        throw new Error("presence needs no connection");
      },
    },
  );
}
