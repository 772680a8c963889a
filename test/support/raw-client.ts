/**
 * An MQTT client without manners: sends any packet or bytes, keeps whatever comes, acknowledges
 * only when told to. For what a well-behaved library would hide.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { generate, type IPublishPacket, type Packet, parser } from "mqtt-packet";
import { onTestFinished } from "vitest";
import {
  makeConnectPassword,
  makeConnectUsername,
} from "../../agent/protocol/connect-signature.ts";
import { waitFor } from "./wait-for.ts";

export interface Credentials {
  readonly accessKey: string;
  readonly secret: string;
  readonly instanceId: string;
}

export const demoCredentials: Credentials = {
  accessKey: "AK",
  secret: "SK",
  instanceId: "mqtt-local",
};

export interface RawConnect {
  readonly clientId: string;
  readonly clean?: boolean;
  readonly keepalive?: number;
  readonly username?: string;
  readonly password?: string;
  readonly protocolId?: "MQTT" | "MQIsdp";
  readonly protocolVersion?: 3 | 4;
  readonly will?: { readonly topic: string; readonly payload: string };
}

export class RawClient {
  readonly packets: Packet[] = [];
  /** Acknowledges what comes, as long as it is true. */
  autoAck = true;
  readonly #socket: Socket;
  #closed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const reader = parser({ protocolVersion: 4 });
    reader.on("packet", (packet) => {
      this.packets.push(packet);
      if (this.autoAck) this.#acknowledge(packet);
    });
    socket.on("data", (chunk: Buffer) => reader.parse(chunk));
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.#closed = true;
    });
  }

  /** A TCP connection, without a CONNECT. Ends with the test. */
  static async open(port: number): Promise<RawClient> {
    const socket = connect({ host: "127.0.0.1", port });
    const client = new RawClient(socket);
    onTestFinished(() => {
      socket.destroy();
    });
    await once(socket, "connect");
    return client;
  }

  /** Connected in signature mode; fails unless it was accepted. */
  static async connect(port: number, options: RawConnect): Promise<RawClient> {
    const client = await RawClient.open(port);
    client.sendConnect(options);
    const connack = await client.next("connack");
    if (!("returnCode" in connack) || connack.returnCode !== 0) {
      throw new Error(`refused: ${JSON.stringify(connack)}`);
    }
    return client;
  }

  sendConnect(options: RawConnect): void {
    this.send({
      cmd: "connect",
      protocolId: options.protocolId ?? "MQTT",
      protocolVersion: options.protocolVersion ?? 4,
      clientId: options.clientId,
      clean: options.clean ?? true,
      keepalive: options.keepalive ?? 0,
      username: options.username ?? makeConnectUsername({ mode: "Signature", ...demoCredentials }),
      password: Buffer.from(
        options.password ?? makeConnectPassword(demoCredentials.secret, options.clientId),
      ),
      ...(options.will && { will: options.will }),
    });
  }

  get closed(): boolean {
    return this.#closed;
  }

  get socket(): Socket {
    return this.#socket;
  }

  send(packet: Packet | Uint8Array): void {
    this.#socket.write(packet instanceof Uint8Array ? packet : generate(packet));
  }

  publish(topic: string, payload: string | Buffer, options: Partial<IPublishPacket> = {}): void {
    const base = { qos: 1, dup: false, retain: false, messageId: 1 } as const;
    this.send({ cmd: "publish", topic, payload, ...base, ...options });
  }

  /** Publishes with QoS 1 and waits for the PUBACK. */
  async publishAcked(topic: string, payload: string, messageId = 1): Promise<void> {
    const before = this.all("puback").length;
    this.publish(topic, payload, { messageId });
    await waitFor(() => this.all("puback").length > before, { what: `the PUBACK of ${topic}` });
  }

  /** The codes of the SUBACK. */
  async subscribe(filter: string, qos: 0 | 1 | 2 = 1): Promise<readonly unknown[]> {
    const before = this.all("suback").length;
    this.send({ cmd: "subscribe", messageId: 7, subscriptions: [{ topic: filter, qos }] });
    const suback = await waitFor(() => this.all("suback")[before], { what: "the SUBACK" });
    return "granted" in suback && suback.granted ? suback.granted : [];
  }

  all(cmd: Packet["cmd"]): Packet[] {
    return this.packets.filter((packet) => packet.cmd === cmd);
  }

  /** The messages that came, repeats included. */
  get messages(): IPublishPacket[] {
    return this.packets.filter((packet) => packet.cmd === "publish");
  }

  get payloads(): string[] {
    return this.messages.map(({ payload }) => payload.toString());
  }

  /** The first packet of this kind, as soon as it is there. */
  async next(cmd: Packet["cmd"]): Promise<Packet> {
    return await waitFor(() => this.all(cmd)[0], { what: `a ${cmd}` });
  }

  async untilMessages(count: number): Promise<IPublishPacket[]> {
    await waitFor(() => this.messages.length >= count, { what: `${count} messages` });
    return this.messages;
  }

  async untilClosed(): Promise<void> {
    await waitFor(() => this.#closed, { what: "the end of the connection" });
  }

  /** A round trip: whatever the service sent before has arrived after it. */
  async ping(): Promise<void> {
    const before = this.all("pingresp").length;
    this.send({ cmd: "pingreq" });
    await waitFor(() => this.all("pingresp").length > before, { what: "a PINGRESP" });
  }

  /** Ends the connection without a word, as a crash does. */
  async drop(): Promise<void> {
    this.#socket.destroy();
    await this.untilClosed();
  }

  async disconnect(): Promise<void> {
    this.send({ cmd: "disconnect" });
    await this.untilClosed();
  }

  #acknowledge(packet: Packet): void {
    const { cmd, messageId } = packet;
    if (messageId === undefined) return;
    if (cmd === "publish") {
      if (packet.qos === 1) this.send({ cmd: "puback", messageId });
      if (packet.qos === 2) this.send({ cmd: "pubrec", messageId });
    } else if (cmd === "pubrel") this.send({ cmd: "pubcomp", messageId });
    else if (cmd === "pubrec") this.send({ cmd: "pubrel", messageId });
  }
}
