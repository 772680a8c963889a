/**
 * The cheapest MQTT client there can be: a socket and the few bytes of a packet that came in two
 * pieces. Thousands of them in one process cost little beside the service that is measured.
 */
import { connect, type Socket } from "node:net";
import { generate } from "mqtt-packet";

export interface DeviceHandlers {
  /** A PUBLISH came; `payload` is valid during the call alone. False: it is not acknowledged. */
  message(payload: Buffer, topic: Buffer): boolean;
  /** A PUBACK came for this packet id. */
  acked(packetId: number): void;
  /** The connection is gone, and nobody here ended it. */
  lost(): void;
}

export interface DeviceConnect {
  readonly port: number;
  readonly clientId: string;
  readonly clean: boolean;
  readonly username: string;
  readonly password: string;
}

const CONNACK = 2;
const PUBLISH = 3;
const PUBACK = 4;
const SUBACK = 9;
const PINGRESP = 13;

export class Device {
  readonly clientId: string;
  /** Whether the service knew its session [MQTT-3.2.2-2]. */
  sessionPresent = false;
  readonly #socket: Socket;
  readonly #handlers: DeviceHandlers;
  #carry: Buffer | undefined;
  #ended = false;
  #answered: ((code: number) => void) | undefined;

  private constructor(clientId: string, socket: Socket, handlers: DeviceHandlers) {
    this.clientId = clientId;
    this.#socket = socket;
    this.#handlers = handlers;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.#answered?.(-1);
      if (!this.#ended) handlers.lost();
    });
  }

  /** Resolves once CONNACK says 0; throws for any other code or a closed connection. */
  static async connect(options: DeviceConnect, handlers: DeviceHandlers): Promise<Device> {
    const { port, clientId, clean, username, password } = options;
    const socket = connect({ host: "127.0.0.1", port });
    const device = new Device(clientId, socket, handlers);
    const keepalive = 0; // Nobody pings: an idle connection is one on which nothing happens.
    const secret = { username, password: Buffer.from(password) };
    const fields = { clientId, clean, keepalive, ...secret };
    const code = await device.#ask(generate({ cmd: "connect", ...fields }));
    if (code !== 0) {
      device.end();
      throw new Error(`${clientId} was refused with ${code}`);
    }
    return device;
  }

  /** Resolves once it is granted with QoS 1. */
  async subscribe(filter: string): Promise<void> {
    const subscriptions = [{ topic: filter, qos: 1 as const }];
    const code = await this.#ask(generate({ cmd: "subscribe", messageId: 1, subscriptions }));
    if (code !== 1) throw new Error(`${this.clientId} may not subscribe to ${filter}: ${code}`);
  }

  /** Resolves when the service has handled all that was sent before. */
  async ping(): Promise<void> {
    await this.#ask(Uint8Array.of(0xc0, 0));
  }

  publish(topic: string, payload: Uint8Array, packetId: number): void {
    this.#socket.write(writePublish(topic, payload, packetId));
  }

  end(): void {
    this.#ended = true;
    this.#socket.destroy();
  }

  #ask(packet: Uint8Array): Promise<number> {
    return new Promise((resolve) => {
      this.#answered = (code) => {
        this.#answered = undefined;
        resolve(code);
      };
      this.#socket.write(packet);
    });
  }

  #read(chunk: Buffer): void {
    const data = this.#carry ? Buffer.concat([this.#carry, chunk]) : chunk;
    this.#carry = undefined;
    const acks: number[] = [];
    let at = 0;
    while (at < data.length) {
      const head = headerAt(data, at);
      if (!head || head.end > data.length) break;
      this.#packet(data, (data[at] as number) & 0xff, head.body, head.end, acks);
      at = head.end;
    }
    // A copy: the rest of the chunk is not held in memory for a few bytes.
    if (at < data.length) this.#carry = Buffer.from(data.subarray(at));
    if (acks.length > 0) this.#socket.write(Uint8Array.from(acks));
  }

  #packet(data: Buffer, first: number, body: number, end: number, acks: number[]): void {
    switch (first >> 4) {
      case PUBLISH: {
        const topicEnd = body + 2 + data.readUInt16BE(body);
        const acknowledged = (first & 0x06) !== 0;
        const takes = this.#handlers.message(
          data.subarray(topicEnd + (acknowledged ? 2 : 0), end),
          data.subarray(body + 2, topicEnd),
        );
        if (acknowledged && takes) {
          acks.push(0x40, 2, data[topicEnd] as number, data[topicEnd + 1] as number);
        }
        break;
      }
      case PUBACK:
        this.#handlers.acked(data.readUInt16BE(body));
        break;
      case CONNACK:
        this.sessionPresent = data[body] === 1;
        this.#answered?.(data[end - 1] as number);
        break;
      case PINGRESP:
        this.#answered?.(0);
        break;
      case SUBACK:
        this.#answered?.(data[end - 1] as number);
        break;
      default:
    }
  }
}

function headerAt(data: Buffer, at: number): { body: number; end: number } | undefined {
  let length = 0;
  for (let i = at + 1, shift = 0; i < data.length && shift <= 21; i++, shift += 7) {
    const byte = data[i] as number;
    length |= (byte & 0x7f) << shift;
    if (byte < 0x80) return { body: i + 1, end: i + 1 + length };
  }
  return undefined;
}

/** QoS 1; by hand, because thousands a second go out. Topic and payload are short. */
function writePublish(topic: string, payload: Uint8Array, packetId: number): Buffer {
  const topicBytes = Buffer.byteLength(topic);
  const rest = 4 + topicBytes + payload.length;
  const lengthBytes = rest < 128 ? 1 : 2;
  const bytes = Buffer.allocUnsafe(1 + lengthBytes + rest);
  bytes[0] = 0x32;
  bytes[1] = rest < 128 ? rest : (rest & 0x7f) | 0x80;
  if (rest >= 128) bytes[2] = rest >> 7;
  let at = bytes.writeUInt16BE(topicBytes, 1 + lengthBytes);
  at += bytes.write(topic, at);
  at = bytes.writeUInt16BE(packetId, at);
  bytes.set(payload, at);
  return bytes;
}
