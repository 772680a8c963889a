import { once } from "node:events";
import { connect } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { silentLog } from "../../../agent/core/log.ts";
import { makeHttpSignature } from "../../../agent/protocol/http-signature.ts";
import { startCloud } from "../../support/cloud.ts";
import { RawClient } from "../../support/raw-client.ts";

const device = "GID_demo@@@gw-01";

function query(change: Record<string, string> = {}): string {
  const signed = {
    accessKey: "AK",
    resource: device,
    timestamp: String(Date.now()),
    instanceId: "mqtt-local",
    ...change,
  };
  const parameters = { ...signed, signature: makeHttpSignature("SK", signed) };
  return new URLSearchParams(parameters).toString();
}

async function ask(port: number, text: string, init?: RequestInit) {
  const response = await fetch(`http://127.0.0.1:${port}/route/clientId/get?${text}`, init);
  return { status: response.status, body: (await response.json()) as unknown };
}

/** Sends bytes and gives everything that comes back until the end. */
async function raw(port: number, bytes: string): Promise<string> {
  const socket = connect({ host: "127.0.0.1", port });
  onTestFinished(() => {
    socket.destroy();
  });
  let received = "";
  socket.on("data", (chunk: Buffer) => {
    received += chunk.toString("latin1");
  });
  socket.on("error", () => undefined);
  socket.write(bytes);
  await once(socket, "close");
  return received;
}

describe("the status query (lmq-protocol 7.1)", () => {
  it("counts the connections of a client id", async () => {
    const { httpPort, mqttPort } = await startCloud();
    expect(await ask(httpPort, query())).toEqual({
      status: 200,
      body: { code: 0, success: true, online: 0, message: "success" },
    });
    const client = await RawClient.connect(mqttPort, { clientId: device });
    expect(await ask(httpPort, query())).toMatchObject({ status: 200, body: { online: 1 } });
    await client.disconnect();
    expect(await ask(httpPort, query())).toMatchObject({ status: 200, body: { online: 0 } });
  });

  it.each([
    ["a missing parameter", "accessKey=AK", 400, 1],
    ["a parameter given twice", `${query()}&resource=x`, 400, 1],
    ["an escape that is none", `${query()}&x=%zz`, 400, 1],
    ["a wrong signature", query().replace(/signature=.*/, "signature=AAAA"), 403, 2],
    ["a client of a foreign group", query({ resource: "GID_else@@@1" }), 403, 3],
    ["a stale timestamp", query({ timestamp: String(Date.now() - 301_000) }), 403, 4],
  ])("answers %s with its codes", async (_, text, status, code) => {
    const { httpPort } = await startCloud();
    expect(await ask(httpPort, text)).toMatchObject({
      status,
      body: { code, success: false, online: -1, message: expect.any(String) },
    });
  });

  it("is GET alone", async () => {
    const { httpPort } = await startCloud();
    const answer = await ask(httpPort, query(), { method: "POST", body: "x" });
    expect(answer).toMatchObject({ status: 400, body: { code: 1, success: false } });
  });
});

describe("HTTP from strangers", () => {
  it("an unknown path is 404", async () => {
    const { httpPort } = await startCloud();
    const response = await fetch(`http://127.0.0.1:${httpPort}/nothing`);
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ error: { code: "not_found" } });
  });

  it("a body over the limit is refused before it is read", async () => {
    const { httpPort } = await startCloud();
    const path = `/route/clientId/get?${query()}`;
    const head = `GET ${path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n`;
    expect(await raw(httpPort, head)).toMatch(/^HTTP\/1.1 413 /);
  });

  it("headers over the limit are refused", async () => {
    const { httpPort } = await startCloud();
    const head = `GET / HTTP/1.1\r\nhost: x\r\nx: ${"y".repeat(20_000)}\r\n\r\n`;
    expect(await raw(httpPort, head)).toMatch(/^HTTP\/1.1 431 /);
  });

  it("a body that ends early is no error of ours", async () => {
    const errors: string[] = [];
    const log = { ...silentLog, error: (event: string) => errors.push(event), child: () => log };
    const { httpPort } = await startCloud({}, { log });
    const socket = connect({ host: "127.0.0.1", port: httpPort });
    await once(socket, "connect");
    socket.write("GET /route/clientId/get HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc");
    await ask(httpPort, query());
    socket.destroy();
    for (let i = 0; i < 5; i++) expect(await ask(httpPort, query())).toMatchObject({ status: 200 });
    expect(errors).toEqual([]);
  });

  it("a parameter given thousands of times costs no more than reading it", async () => {
    const { httpPort } = await startCloud();
    const cost = async (text: string): Promise<number> => {
      const before = process.cpuUsage();
      for (let i = 0; i < 10; i++) expect((await ask(httpPort, text)).status).toBe(400);
      const { user, system } = process.cpuUsage(before);
      return user + system;
    };
    const others = Array.from({ length: 2_500 }, (_, i) => `a${i}`).join("&");
    const same = Array.from({ length: 5_000 }, () => "aa").join("&");
    await cost(others); // Warm.
    expect(await cost(same)).toBeLessThan(8 * (await cost(others)));
  });

  it("what is not HTTP is refused, and the service goes on", async () => {
    const { httpPort } = await startCloud();
    expect(await raw(httpPort, "\u0000\u0001nonsense\r\n\r\n")).toMatch(/^HTTP\/1.1 400 /);
    expect(await ask(httpPort, query())).toMatchObject({ status: 200 });
  });
});
