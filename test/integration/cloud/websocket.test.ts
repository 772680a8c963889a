/** Listeners of lmq-protocol 2: WebSocket with and without TLS, any path, both subprotocols. */
import { once } from "node:events";
import { connect } from "node:net";
import { connectAsync, type IClientOptions } from "mqtt";
import { generate, type Packet, parser } from "mqtt-packet";
import { describe, expect, it, onTestFinished } from "vitest";
import WebSocket from "ws";
import {
  makeConnectPassword,
  makeConnectUsername,
} from "../../../agent/protocol/connect-signature.ts";
import { makeAuthority, makeCertificate } from "../../support/certificates.ts";
import { startCloud } from "../../support/cloud.ts";
import { spawnCloud } from "../../support/cloud-process.ts";
import { demoCredentials, RawClient } from "../../support/raw-client.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";

const clientId = "GID_demo@@@browser";
const host = "127.0.0.1";
const username = makeConnectUsername({ mode: "Signature", ...demoCredentials });
const password = makeConnectPassword(demoCredentials.secret, clientId);
const connectPacket = generate({
  cmd: "connect",
  clientId,
  clean: true,
  username,
  password: Buffer.from(password),
});

async function startWs(timings = {}) {
  const service = await startCloud({
    listen: { host, ws: { port: 0 }, mqtt: { port: 0 } },
    timings,
  });
  return { ...service, wsPort: service.cloud.ready?.ws?.port ?? 0 };
}

/** A WebSocket without MQTT manners: what it sends and gets are packets. */
async function openSocket(port: number, path = "/mqtt", protocols: string[] = ["mqtt"]) {
  const socket = new WebSocket(`ws://${host}:${port}${path}`, protocols);
  onTestFinished(() => socket.terminate());
  const packets: Packet[] = [];
  const reader = parser({ protocolVersion: 4 });
  reader.on("packet", (packet) => packets.push(packet));
  socket.on("message", (data: Buffer) => reader.parse(data));
  socket.on("error", () => undefined);
  await once(socket, "open");
  const closed = once(socket, "close").then(([code]) => code as number);
  return { socket, packets, closed };
}

async function upgradeStatus(port: number, protocols: string[]): Promise<number | undefined> {
  const socket = new WebSocket(`ws://${host}:${port}/mqtt`, protocols);
  socket.on("error", () => undefined);
  const [, response] = (await once(socket, "unexpected-response")) as [
    unknown,
    { statusCode?: number },
  ];
  socket.terminate();
  return response.statusCode;
}

async function p2pToItself(url: string, options: IClientOptions = {}): Promise<string[]> {
  const client = await connectAsync(url, {
    clientId,
    username,
    password,
    protocolVersion: 4,
    reconnectPeriod: 0,
    ...options,
  });
  onTestFinished(() => client.endAsync(true));
  const received: string[] = [];
  client.on("message", (topic, payload) => received.push(`${topic} ${payload.toString()}`));
  await client.publishAsync(`GW_DOWN/p2p/${clientId}`, "mine", { qos: 1 });
  await waitFor(() => received.length > 0, { what: "the message over WebSocket" });
  return received;
}

describe("WebSocket", () => {
  it.each(["/", "/mqtt", "/any/path?at=all"])("takes the path %s", async (path) => {
    const { wsPort } = await startWs();
    const { socket, packets } = await openSocket(wsPort, path);
    socket.send(connectPacket);
    await waitFor(() => packets.length === 1);
    expect(packets).toMatchObject([{ cmd: "connack", returnCode: 0 }]);
  });

  it.each([
    [["mqtt"], "mqtt"],
    [["mqttv3.1"], "mqttv3.1"],
    [["mqttv3.1", "mqtt"], "mqtt"],
    [["other", "mqttv3.1"], "mqttv3.1"],
  ])("agrees on a subprotocol out of %j [MQTT-6.0.0-4]", async (offered, agreed) => {
    const { wsPort } = await startWs();
    const { socket } = await openSocket(wsPort, "/mqtt", offered);
    expect(socket.protocol).toBe(agreed);
  });

  it.each([[[]], [["soap"]]])("refuses the subprotocols %j [MQTT-6.0.0-3]", async (offered) => {
    const { wsPort } = await startWs();
    expect(await upgradeStatus(wsPort, offered)).toBe(400);
  });

  it("carries MQTT.js, which meets a client of TCP", async () => {
    const { wsPort, mqttPort } = await startWs();
    const tcp = await RawClient.connect(mqttPort, { clientId: "GID_demo@@@tcp" });
    await tcp.subscribe("GW_DOWN/#");
    expect(await p2pToItself(`ws://${host}:${wsPort}`)).toEqual([`GW_DOWN/p2p/${clientId} mine`]);
  });

  it("carries MQTT.js over TLS", async () => {
    const authority = makeAuthority();
    const tls = makeCertificate({ name: "service", hosts: [host], issuer: authority });
    const { cloud } = await startCloud({ listen: { host, wss: { port: 0 } }, tls });
    const url = `wss://${host}:${cloud.ready?.wss?.port}/mqtt`;
    expect(await p2pToItself(url, { ca: authority.cert })).toHaveLength(1);
  });

  it("cuts packets where they end and not where frames do [MQTT-6.0.0-2]", async () => {
    const { wsPort } = await startWs();
    const { socket, packets } = await openSocket(wsPort);
    const ping = generate({ cmd: "pingreq" });
    const bytes = Buffer.concat([connectPacket, ping, ping, ping]);
    for (const byte of bytes.subarray(0, 50)) socket.send(Uint8Array.of(byte));
    socket.send(new Uint8Array());
    socket.send(bytes.subarray(50));
    await waitFor(() => packets.length === 4);
    expect(packets.map(({ cmd }) => cmd)).toEqual(["connack", "pingresp", "pingresp", "pingresp"]);
  });

  it("closes on a text frame, whatever is in it [MQTT-6.0.0-1]", async () => {
    const { wsPort, cloud } = await startWs();
    const { socket, packets, closed } = await openSocket(wsPort);
    socket.send(connectPacket);
    await waitFor(() => packets.length === 1);
    // A PUBLISH of QoS 0 to GW_UP, every byte of which is a character.
    socket.send("0\u0008\0\u0005GW_UPx");
    await closed;
    await waitFor(() => cloud.stats.connections === 0);
    expect(cloud.stats.accepted).toBe(0);
  });

  it("closes on a message over the bound as soon as it is announced", async () => {
    const { wsPort, cloud } = await startWs();
    const socket = connect({ host, port: wsPort });
    onTestFinished(() => {
      socket.destroy();
    });
    const handshake = [
      "GET /mqtt HTTP/1.1",
      "Host: x",
      "Connection: Upgrade",
      "Upgrade: websocket",
      "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
      "Sec-WebSocket-Protocol: mqtt",
    ];
    socket.write(`${handshake.join("\r\n")}\r\n\r\n`);
    await waitFor(() => cloud.stats.connections === 1, { what: "the upgrade" });
    // FIN and binary; masked, with a length of 256 MB in eight bytes, and not a byte of it.
    socket.write(Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 0, 1, 2, 3, 4]));
    socket.resume();
    await once(socket, "close");
    await waitFor(() => cloud.stats.connections === 0);
  });

  it("tells what is not WebSocket so, and goes on", async () => {
    const { wsPort } = await startWs();
    const response = await fetch(`http://${host}:${wsPort}/mqtt`);
    expect([response.status, response.headers.get("upgrade")]).toEqual([426, "websocket"]);
    const plain = connect({ host, port: wsPort });
    plain.write(connectPacket);
    plain.resume();
    await once(plain, "close");
    expect(await p2pToItself(`ws://${host}:${wsPort}`)).toHaveLength(1);
  });

  it("drops who does not upgrade, or upgrades and sends no CONNECT, within the time", async () => {
    const { wsPort, cloud } = await startWs({ connectTimeoutMs: 100 });
    const silent = connect({ host, port: wsPort });
    silent.write("GET /mqtt HTTP/1.1\r\nHost:");
    silent.resume();
    const { closed } = await openSocket(wsPort);
    await Promise.all([once(silent, "close"), closed]);
    await waitFor(() => cloud.stats.connections === 0);
  });

  it("ends its clients when the service stops", async () => {
    const { wsPort, stop } = await startWs();
    const { closed } = await openSocket(wsPort);
    await stop();
    expect(await closed).toBe(1005);
  });

  it("is on the line that says ready, at a port of its own or a free one", async () => {
    const service = await spawnCloud(await tempDir(), ["--ws-port", "auto"]);
    expect(service.output()).toMatch(/^ready mqtt=\S+ ws=127\.0\.0\.1:\d+ http=\S+$/m);
    const { socket } = await openSocket(service.ports.ws);
    expect(socket.protocol).toBe("mqtt");
    expect(await service.kill("SIGTERM")).toBe(0);
  });
});
