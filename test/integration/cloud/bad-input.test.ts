/**
 * What strangers send, at the size at which it would hurt: the protocol's answer, the connection
 * closed, memory bounded, everyone else served. Single malformed packets are in conformance.test.ts
 * and fuzz.test.ts.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { expect, it, onTestFinished } from "vitest";
import { silentLog } from "../../../agent/core/log.ts";
import { makeConnectPassword } from "../../../agent/protocol/connect-signature.ts";
import { makeHttpSignature } from "../../../agent/protocol/http-signature.ts";
import { makeCertificate } from "../../support/certificates.ts";
import { startCloud } from "../../support/cloud.ts";
import { heldMemory } from "../../support/held-memory.ts";
import { packet, text } from "../../support/packet-bytes.ts";
import { RawClient } from "../../support/raw-client.ts";
import { SeededRandom } from "../../support/seeded-random.ts";
import { waitFor } from "../../support/wait-for.ts";

const device = "GID_demo@@@gw-01";
const MB = 1_048_576;

/** A connection that is closed when the test ends; what comes back is kept as text. */
async function open(port: number): Promise<{ socket: Socket; answer: () => string }> {
  const socket = connect({ host: "127.0.0.1", port });
  onTestFinished(() => {
    socket.destroy();
  });
  let answer = "";
  socket.on("data", (chunk: Buffer) => {
    answer += chunk.toString("latin1");
  });
  socket.on("error", () => undefined);
  await once(socket, "connect");
  return { socket, answer: () => answer };
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed) resolve();
    else socket.once("close", () => resolve());
  });
}

/** Sends up to `bytes` in pieces, as fast as they are taken; gives how many went before the end. */
async function pour(socket: Socket, bytes: number, piece: Buffer): Promise<number> {
  let sent = 0;
  while (sent < bytes && !socket.destroyed && socket.writable) {
    const isTaken = socket.write(piece);
    sent += piece.length;
    if (!isTaken)
      await Promise.race([once(socket, "drain"), once(socket, "close")]).catch(() => []);
  }
  return sent;
}

async function served(port: number): Promise<void> {
  const bystander = await RawClient.connect(port, { clientId: "GID_demo@@@bystander" });
  await bystander.publishAcked("GW_DOWN/p2p/GID_demo@@@bystander", "mine");
  await bystander.untilMessages(1);
  await bystander.disconnect();
}

it.each([
  ["a PUBLISH of 256 MB before its CONNECT", false, Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0x7f)],
  ["a CONNECT of 256 MB", false, Uint8Array.of(0x10, 0xff, 0xff, 0xff, 0x7f)],
  ["a PUBLISH of 256 MB", true, Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0x7f)],
  ["a SUBSCRIBE of 256 MB", true, Uint8Array.of(0x82, 0xff, 0xff, 0xff, 0x7f)],
])("%s is cut off at its announcement", async (_, isKnown, head) => {
  const { mqttPort, cloud } = await startCloud();
  const before = heldMemory();
  for (let round = 0; round < 5; round++) {
    const client = isKnown
      ? (await RawClient.connect(mqttPort, { clientId: device })).socket
      : (await open(mqttPort)).socket;
    client.write(head);
    const sent = await pour(client, 64 * MB, Buffer.alloc(65_536, 0x41));
    expect(sent).toBeLessThan(16 * MB);
  }
  await waitFor(() => cloud.stats.connections === 0);
  expect(heldMemory() - before).toBeLessThan(4 * MB);
  await served(mqttPort);
});

it("random bytes, alone and behind a CONNECT, end the connection and nothing else", async () => {
  const { mqttPort, cloud } = await startCloud();
  const random = new SeededRandom(7);
  for (let round = 0; round < 60; round++) {
    const noise = Buffer.from(random.bytes(1 + random.int(2_000)));
    if (round % 2 === 0) {
      const { socket } = await open(mqttPort);
      socket.end(noise);
    } else {
      const client = await RawClient.connect(mqttPort, { clientId: device });
      client.autoAck = false;
      client.socket.end(noise);
    }
  }
  await waitFor(() => cloud.stats.connections === 0);
  await served(mqttPort);
});

it("a thousand strangers, each with half a CONNECT, hold what they sent and no more", async () => {
  const { mqttPort, cloud } = await startCloud({ timings: { connectTimeoutMs: 60_000 } });
  const half = packet(0x10, text("MQTT"), 4, 0xc2, 0, 60, text("x".repeat(8_000))).subarray(
    0,
    4_000,
  );
  const before = heldMemory();
  const sockets = await Promise.all(Array.from({ length: 1_000 }, () => open(mqttPort)));
  for (const { socket } of sockets) socket.write(half);
  await waitFor(() => cloud.stats.connections === 1_000);
  await served(mqttPort);
  // Both ends of each connection are in this process.
  expect(heldMemory() - before).toBeLessThan(40 * MB);
  for (const { socket } of sockets) socket.destroy();
  await waitFor(() => cloud.stats.connections === 0);
});

it("strangers are counted by what they may hold, and those who are known are not", async () => {
  const { mqttPort, cloud } = await startCloud({ limits: { strangerBytes: 3 * 16_384 } });
  const known = await RawClient.connect(mqttPort, { clientId: device });
  const strangers = await Promise.all([open(mqttPort), open(mqttPort), open(mqttPort)]);
  await waitFor(() => cloud.stats.connections === 4);
  const { socket: fourth } = await open(mqttPort);
  await closed(fourth);
  await known.ping();
  strangers[0].socket.destroy();
  await waitFor(() => cloud.stats.connections === 3);
  await served(mqttPort);
});

it("who sends without end and reads nothing is read no further", async () => {
  const { mqttPort, cloud } = await startCloud();
  const client = await RawClient.connect(mqttPort, { clientId: device });
  client.socket.pause();
  const before = heldMemory();
  const ping = packet(0xc0);
  const pings = Buffer.concat(Array.from({ length: 32_768 }, () => ping));
  let sent = 0;
  while (!client.socket.writableNeedDrain && sent < 64 * MB) {
    client.socket.write(pings);
    sent += pings.length;
    await new Promise((resolve) => setImmediate(resolve));
  }
  await served(mqttPort);
  expect(cloud.stats.connections).toBe(1);
  expect(heldMemory() - before).toBeLessThan(8 * MB);
  client.socket.resume();
  await client.ping();
});

const post = (extra: string): string =>
  `POST /token/query HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n${extra}\r\n\r\n`;

it.each([
  ["announced", post(`content-length: ${100 * MB}`), Buffer.alloc(65_536, 0x61)],
  [
    "in chunks",
    post("transfer-encoding: chunked"),
    Buffer.concat([Buffer.from("10000\r\n"), Buffer.alloc(65_536, 0x61), Buffer.from("\r\n")]),
  ],
])("a body of 100 MB, %s, is answered 413 and not read", async (_, head, piece) => {
  const { httpPort, mqttPort } = await startCloud();
  const before = heldMemory();
  for (let round = 0; round < 5; round++) {
    const { socket, answer } = await open(httpPort);
    socket.write(head);
    const sent = await pour(socket, 100 * MB, piece);
    await closed(socket);
    expect(answer()).toMatch(/^HTTP\/1.1 413 [\s\S]*payload_too_large/);
    expect(sent).toBeLessThan(20 * MB);
  }
  expect(heldMemory() - before).toBeLessThan(4 * MB);
  await served(mqttPort);
});

it("who sends all of a body before it reads sees the answer to one that is too large", async () => {
  const { httpPort } = await startCloud();
  const { socket, answer } = await open(httpPort);
  socket.pause();
  socket.write(post(`content-length: ${MB}`));
  // Others come and go: the answer has been given long before the rest of the body is sent.
  for (let i = 0; i < 5; i++) await (await fetch(`http://127.0.0.1:${httpPort}/nothing`)).text();
  for (let sent = 0; sent < MB; sent += 16_384) {
    const error = await new Promise((resolve) => socket.write(Buffer.alloc(16_384), resolve));
    expect(error ?? undefined).toBeUndefined();
  }
  socket.resume();
  await closed(socket);
  expect(answer()).toMatch(/^HTTP\/1.1 413 /);
});

it.each([
  ["headers", "POST /token/query HTTP/1.1\r\nhost: x\r\nx-slow: ", "a"],
  ["a body", post("content-length: 100000"), "a"],
  ["a body in chunks", post("transfer-encoding: chunked"), "1\r\na\r\n"],
])("%s that come drop by drop end with 408 within the time", async (_, head, drop) => {
  const { httpPort, mqttPort } = await startCloud({ timings: { connectTimeoutMs: 300 } });
  const { socket, answer } = await open(httpPort);
  socket.write(head);
  const drip = setInterval(() => socket.write(drop), 20);
  onTestFinished(() => clearInterval(drip));
  await closed(socket);
  expect(answer()).toMatch(/^HTTP\/1.1 408 /);
  await served(mqttPort);
});

it.each(["nothing", "half a handshake", "no handshake"])(
  "%s on the TLS port ends within the time",
  async (what) => {
    const tls = makeCertificate({ name: "service", hosts: ["127.0.0.1"] });
    const listen = { host: "127.0.0.1", mqtt: { port: 0 }, mqtts: { port: 0 } };
    const timings = { connectTimeoutMs: 200 };
    const { cloud, mqttPort } = await startCloud({ listen, tls, timings });
    const { socket } = await open(cloud.ready?.mqtts?.port ?? 0);
    // The head of a TLS record of 512 bytes, and a few of them.
    if (what === "half a handshake") socket.write(Uint8Array.of(0x16, 3, 1, 2, 0, 1, 0, 1));
    if (what === "no handshake") socket.write("GET / HTTP/1.1\r\n\r\n");
    await closed(socket);
    await served(mqttPort);
  },
);

it("no secret, password or signature is in any line of the log", async () => {
  const lines: string[] = [];
  const log = (event: string, fields?: object): number =>
    lines.push(`${event} ${JSON.stringify(fields)}`);
  const logger = {
    ...silentLog,
    debug: log,
    info: log,
    warn: log,
    error: log,
    child: () => logger,
  };
  const secret = "a-secret-of-its-own";
  const { mqttPort, httpPort } = await startCloud(
    {
      directory: {
        accounts: new Map([["AK", secret]]),
        instanceId: "mqtt-local",
        groups: new Set(["GID_demo"]),
        topics: new Map([["GW_UP", { ordered: false }]]),
      },
    },
    { log: logger },
  );
  const password = makeConnectPassword(secret, device);
  const good = await RawClient.connect(mqttPort, { clientId: device, password });
  for (const wrong of [makeConnectPassword(`${secret}x`, device), "RW|some-token"]) {
    const bad = await RawClient.open(mqttPort);
    const username = wrong.startsWith("RW") ? "Token|AK|mqtt-local" : "Signature|AK|mqtt-local";
    bad.sendConnect({ clientId: device, username, password: wrong });
    await bad.untilClosed();
  }
  good.publish("NOT_CREATED/a", "x");
  await good.untilClosed();
  const signed = { accessKey: "AK", resource: device, timestamp: "1", instanceId: "mqtt-local" };
  const signature = makeHttpSignature(secret, signed);
  const query = new URLSearchParams({ ...signed, signature }).toString();
  await fetch(`http://127.0.0.1:${httpPort}/route/clientId/get?${query}`);
  expect(lines.length).toBeGreaterThan(3);
  const all = lines.join("\n");
  const wrong = makeConnectPassword(`${secret}x`, device);
  for (const hidden of [secret, password, wrong, "some-token", signature]) {
    expect(all).not.toContain(hidden);
  }
});
