/**
 * An MQTT server that does what a test tells it to, rightly or wrongly. A script sees each packet
 * first; what it does not claim is answered as a polite broker would (`answerPolitely`).
 */
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";
import { generate, type IConnectPacket, type Packet, parser } from "mqtt-packet";

/** True: dealt with, no polite answer. */
// biome-ignore lint/suspicious/noConfusingVoidType: most scripts have nothing to say
export type Script = (packet: Packet, peer: Peer) => boolean | void;

/** One accepted connection. */
export class Peer {
  readonly index: number;
  readonly socket: Socket;
  /** Every packet that came, in order. */
  readonly received: Packet[] = [];
  connect: IConnectPacket | undefined;
  closed = false;

  constructor(index: number, socket: Socket) {
    this.index = index;
    this.socket = socket;
  }

  send(...packets: Packet[]): void {
    this.sendRaw(Buffer.concat(packets.map((packet) => generate(packet))));
  }

  sendRaw(bytes: Uint8Array): void {
    if (!this.socket.destroyed) this.socket.write(bytes);
  }

  publish(messageId: number, qos: 0 | 1 | 2, payload: string | Buffer, dup = false): void {
    this.send(publishPacket(messageId, qos, payload, dup));
  }

  /** What came of one kind. */
  of<C extends Packet["cmd"]>(cmd: C): Extract<Packet, { cmd: C }>[] {
    return this.received.filter((packet) => packet.cmd === cmd) as Extract<Packet, { cmd: C }>[];
  }
}

export function publishPacket(
  messageId: number,
  qos: 0 | 1 | 2,
  payload: string | Buffer,
  dup = false,
): Packet {
  const packet = { cmd: "publish", topic: "down/x", payload, qos, dup, retain: false } as const;
  return qos === 0 ? packet : { ...packet, messageId };
}

export class ScriptedBroker {
  readonly peers: Peer[] = [];
  script: Script;
  readonly #server: Server;

  private constructor(server: Server, script: Script) {
    this.#server = server;
    this.script = script;
  }

  static async start(script: Script = () => false, tls?: TlsOptions): Promise<ScriptedBroker> {
    const server = tls ? createTlsServer(tls) : createServer();
    const broker = new ScriptedBroker(server, script);
    server.on(tls ? "secureConnection" : "connection", (socket: Socket) => broker.#serve(socket));
    server.on("tlsClientError", () => undefined);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return broker;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address ? address.port : 0;
  }

  get url(): string {
    return `mqtt://127.0.0.1:${this.port}`;
  }

  /** The connection that came last. */
  get peer(): Peer {
    const peer = this.peers.at(-1);
    if (!peer) throw new Error("Nobody has connected.");
    return peer;
  }

  get open(): number {
    return this.peers.filter((peer) => !peer.closed).length;
  }

  async stop(): Promise<void> {
    for (const peer of this.peers) peer.socket.destroy();
    if (!this.#server.listening) return;
    this.#server.close();
    await once(this.#server, "close");
  }

  #serve(socket: Socket): void {
    const peer = new Peer(this.peers.length, socket);
    this.peers.push(peer);
    const packets = parser();
    packets.on("packet", (packet) => {
      peer.received.push(packet);
      if (packet.cmd === "connect") peer.connect = packet;
      if (this.script(packet, peer) !== true) answerPolitely(packet, peer);
    });
    packets.on("error", () => socket.destroy());
    socket.on("data", (bytes) => packets.parse(bytes));
    socket.on("error", () => undefined);
    socket.on("close", () => {
      peer.closed = true;
    });
  }
}

function answerPolitely(packet: Packet, peer: Peer): void {
  const messageId = packet.messageId ?? 0;
  switch (packet.cmd) {
    case "connect":
      peer.send({ cmd: "connack", returnCode: 0, sessionPresent: false });
      break;
    case "subscribe": {
      const granted = packet.subscriptions.map(({ qos }) => qos);
      peer.send({ cmd: "suback", messageId, granted });
      break;
    }
    case "publish":
      if (packet.qos === 1) peer.send({ cmd: "puback", messageId });
      break;
    case "pubrec":
      peer.send({ cmd: "pubrel", messageId });
      break;
    case "pingreq":
      peer.send({ cmd: "pingresp" });
      break;
    case "disconnect":
      peer.socket.end();
      break;
    default:
  }
}
