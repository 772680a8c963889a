/**
 * Valid streams of packets, damaged by a seed and sent to a service over many connections, beside a
 * client that behaves and must be served all the while. The bytes of a seed are always the same;
 * how they meet on the network is not.
 *
 * Held against the service: it answers nothing that cannot be read, the one that behaves is never
 * disconnected and gets each of its messages, no connection, session or buffer is left, and memory
 * does not grow with the number of packets.
 */
import { connect } from "node:net";
import type { Duplex } from "node:stream";
import { generate, type Packet, parser } from "mqtt-packet";
import { silentLog } from "../../agent/core/log.ts";
import { SystemClock } from "../../agent/core/system-clock.ts";
import {
  makeConnectPassword,
  makeConnectUsername,
} from "../../agent/protocol/connect-signature.ts";
import { demoCredentials } from "./raw-client.ts";
import { SeededRandom } from "./seeded-random.ts";
import { waitFor } from "./wait-for.ts";

export interface FuzzTarget {
  /** A connection of whatever transport, as bytes. */
  readonly connect: () => Duplex;
  stats(): {
    readonly connections: number;
    readonly sessions: number;
    readonly bufferedBytes: number;
  };
  /** Bytes in use after a collection of garbage. */
  usedBytes(): number | Promise<number>;
}

export interface FuzzOptions {
  readonly seed: number;
  /** Damaged packets to send. */
  readonly packets: number;
  /** Told now and then how many were sent. */
  readonly progress?: (packets: number) => void;
}

export interface FuzzReport {
  readonly packets: number;
  readonly connections: number;
  /** Packets that came back, of all kinds. */
  readonly answers: number;
  /** Messages that the client that behaves sent to itself and got. */
  readonly served: number;
  /** What is wrong, one sentence each; empty when all is well. */
  readonly faults: readonly string[];
  /** Growth from the first quarter to the end, in bytes. */
  readonly grownBytes: number;
}

const IDS = 20;
const AT_ONCE = 16;
/** Who is not answered for so long has sent no whole CONNECT, in milliseconds. */
const UNANSWERED_MS = 50;
const BYSTANDER = "GID_demo@@@bystander";

export async function fuzz(target: FuzzTarget, options: FuzzOptions): Promise<FuzzReport> {
  const random = new SeededRandom(options.seed);
  warmLibrary();
  const faults: string[] = [];
  const bystander = await Bystander.connect(target.connect());
  let packets = 0;
  let connections = 0;
  let answers = 0;
  let firstBytes: number | undefined;
  while (packets < options.packets && faults.length < 10) {
    const streams = Array.from({ length: AT_ONCE }, () => damagedStream(random));
    const results = await Promise.all(
      streams.map(({ chunks }) => attack(target.connect(), chunks)),
    );
    packets += streams.reduce((sum, { damaged }) => sum + damaged, 0);
    connections += AT_ONCE;
    for (const { answered, fault } of results) {
      answers += answered;
      if (fault) faults.push(fault);
    }
    const missed = await bystander.check();
    if (missed) faults.push(missed);
    if (firstBytes === undefined && packets >= options.packets / 4) {
      firstBytes = await target.usedBytes();
    }
    options.progress?.(packets);
  }
  const left = await nothingLeft(target);
  if (left) faults.push(left);
  const grownBytes = (await target.usedBytes()) - (firstBytes ?? 0);
  bystander.end();
  return { packets, connections, answers, served: bystander.served, faults, grownBytes };
}

/** A broker with the limits that a test can wait for; the caller has made the service with them. */
export const fuzzTimings = { ackTimeoutMs: 200, offlineIntervalMs: 50, connectTimeoutMs: 1_000 };
export const fuzzLimits = { offlinePerInstance: 500, liveBytes: 1_000_000 };
export const fuzzDeps = { clock: new SystemClock(), log: silentLog };

/**
 * mqtt-packet keeps a pooled buffer for each length that it ever wrote. Made one by one, each would
 * pin a pool of 64 KB and look like a leak of the service.
 */
function warmLibrary(): void {
  const base = { cmd: "publish", topic: "", qos: 0, dup: false, retain: false } as const;
  for (let length = 0; length < 4_096; length++) {
    generate({ ...base, topic: "a", payload: Buffer.alloc(length) });
  }
}

/** Connections over TCP. */
export function overTcp(port: number): () => Duplex {
  return () => connect({ host: "127.0.0.1", port });
}

interface Stream {
  readonly chunks: readonly Uint8Array[];
  readonly damaged: number;
}

/** A CONNECT, mostly a good one, and up to fifteen packets, of which about half are damaged. */
function damagedStream(random: SeededRandom): Stream {
  const clientId = `GID_demo@@@fuzz-${random.int(IDS)}`;
  const packets: Uint8Array[] = [];
  let damaged = 0;
  const hurtConnect = random.chance(0.2);
  const first = connectPacket(clientId, random);
  packets.push(hurtConnect ? damage(first, random) : first);
  if (hurtConnect) damaged++;
  for (let left = 1 + random.int(15); left > 0; left--) {
    const good = anyPacket(clientId, random);
    const hurt = random.chance(0.5);
    packets.push(hurt ? damage(good, random) : good);
    if (hurt) damaged++;
  }
  return { chunks: inChunks(Buffer.concat(packets), random), damaged };
}

function connectPacket(clientId: string, random: SeededRandom): Uint8Array {
  return generate({
    cmd: "connect",
    clientId,
    clean: random.chance(0.5),
    keepalive: random.int(100),
    username: makeConnectUsername({ mode: "Signature", ...demoCredentials }),
    password: Buffer.from(makeConnectPassword(demoCredentials.secret, clientId)),
  });
}

function anyPacket(clientId: string, random: SeededRandom): Uint8Array {
  const messageId = 1 + random.int(20);
  const topics = [
    "GW_UP/a",
    "GW_UP/a/b",
    `GW_DOWN/p2p/${clientId}`,
    "GW_DOWN/p2p/GID_demo@@@fuzz-3",
  ];
  const filters = ["GW_UP/#", "GW_UP/+", "GW_UP/a", "GW_DOWN/+/x", "$SYS/tokenExpireNotice"];
  const controls = ["$SYS/getOfflineMsg", "$SYS/enableOrderMsg", "$SYS/uploadToken"];
  const kinds: readonly (() => Packet)[] = [
    () => publish(pick(topics, random), random.bytes(random.int(300)), messageId, random),
    () =>
      publish(
        pick(controls, random),
        Buffer.from('{"maxPushNum":9,"pushOrder":"ASC"}'),
        messageId,
        random,
      ),
    () => ({
      cmd: "subscribe",
      messageId,
      subscriptions: [{ topic: pick(filters, random), qos: random.int(3) as 0 | 1 | 2 }],
    }),
    () => ({ cmd: "unsubscribe", messageId, unsubscriptions: [pick(filters, random)] }),
    () => ({ cmd: pick(["puback", "pubrec", "pubrel", "pubcomp"] as const, random), messageId }),
    () => ({ cmd: "pingreq" }),
    () => publish(pick(topics, random), random.bytes(random.int(3_000)), messageId, random),
  ];
  return generate(pick(kinds, random)());
}

function publish(
  topic: string,
  payload: Uint8Array,
  messageId: number,
  random: SeededRandom,
): Packet {
  const qos = random.int(3) as 0 | 1 | 2;
  const dup = qos > 0 && random.chance(0.3);
  return {
    cmd: "publish",
    topic,
    payload: Buffer.from(payload),
    qos,
    messageId,
    dup,
    retain: random.chance(0.3),
  };
}

/** One to three of: a bit, a byte, a length, bytes gone, bytes more, cut short, twice, noise. */
function damage(packet: Uint8Array, random: SeededRandom): Uint8Array {
  let bytes = Buffer.from(packet);
  for (let times = 1 + random.int(3); times > 0; times--) {
    const at = random.int(bytes.length || 1);
    switch (random.int(8)) {
      case 0:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random.int(8));
        break;
      case 1:
        bytes[at] = random.int(256);
        break;
      case 2:
        bytes[1] = random.int(256);
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random.int(8))]);
        break;
      case 4:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          random.bytes(1 + random.int(8)),
          bytes.subarray(at),
        ]);
        break;
      case 5:
        bytes = bytes.subarray(0, at);
        break;
      case 6:
        bytes = Buffer.concat([bytes, bytes]);
        break;
      default:
        bytes = Buffer.from(random.bytes(1 + random.int(64)));
    }
  }
  return bytes;
}

function inChunks(bytes: Buffer, random: SeededRandom): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const size = random.chance(0.5) ? bytes.length : 1 + random.int(200);
    chunks.push(bytes.subarray(at, at + size));
    at += size;
  }
  return chunks;
}

/** Sends all of it and cuts the connection when the service has answered what it will. */
function attack(
  socket: Duplex,
  chunks: readonly Uint8Array[],
): Promise<{ readonly answered: number; readonly fault: string | undefined }> {
  return new Promise((resolve) => {
    const answers = readAnswers(socket);
    socket.on("close", () => resolve({ answered: answers.count, fault: answers.fault }));
    socket.on("error", () => undefined);
    for (const chunk of chunks) socket.write(chunk);
    // An answer says that the rest is being read too; without one there was no good CONNECT.
    const timer = setTimeout(() => socket.end(), UNANSWERED_MS);
    socket.once("data", () => socket.end());
    socket.once("close", () => clearTimeout(timer));
  });
}

/** What the service says must be readable, whatever it was sent. */
function readAnswers(socket: Duplex): { count: number; fault: string | undefined } {
  const answers: { count: number; fault: string | undefined } = { count: 0, fault: undefined };
  const reader = parser({ protocolVersion: 4 });
  reader.on("packet", () => answers.count++);
  const broken = (error: unknown): void => {
    answers.fault ??= `an answer cannot be read: ${String(error)}`;
  };
  reader.on("error", broken);
  socket.on("data", (chunk: Buffer) => {
    if (answers.fault !== undefined) return;
    try {
      reader.parse(chunk);
    } catch (error) {
      broken(error);
    }
  });
  return answers;
}

async function nothingLeft(target: FuzzTarget): Promise<string | undefined> {
  const isEmpty = (): boolean => {
    const { connections, bufferedBytes, sessions } = target.stats();
    return connections === 1 && bufferedBytes === 0 && sessions <= IDS + 1;
  };
  try {
    await waitFor(isEmpty, { what: "the last connection to end", guardMs: 10_000 });
    return undefined;
  } catch {
    return `something is left: ${JSON.stringify(target.stats())}`;
  }
}

function pick<T>(list: readonly T[], random: SeededRandom): T {
  return list[random.int(list.length)] as T;
}

/** Sends itself a message after each round of attacks and waits for it. */
class Bystander {
  served = 0;
  readonly #socket: Duplex;
  #closed = false;
  #received = "";

  static async connect(socket: Duplex): Promise<Bystander> {
    const bystander = new Bystander(socket);
    await waitFor(() => bystander.#received === "connack", { what: "the one that behaves" });
    return bystander;
  }

  private constructor(socket: Duplex) {
    this.#socket = socket;
    const reader = parser({ protocolVersion: 4 });
    reader.on("packet", (packet) => {
      if (packet.cmd === "connack" && packet.returnCode === 0) this.#received = "connack";
      if (packet.cmd !== "publish") return;
      this.#received = packet.payload.toString();
      if (packet.qos === 1)
        socket.write(generate({ cmd: "puback", messageId: packet.messageId ?? 0 }));
    });
    socket.on("data", (chunk: Buffer) => reader.parse(chunk));
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.#closed = true;
    });
    socket.write(connectPacket(BYSTANDER, new SeededRandom(1)));
  }

  /** What went wrong, if anything. */
  async check(): Promise<string | undefined> {
    const payload = `round ${this.served + 1}`;
    const topic = `GW_DOWN/p2p/${BYSTANDER}`;
    const base = { qos: 1, messageId: 1, dup: false, retain: false } as const;
    this.#socket.write(generate({ cmd: "publish", topic, payload, ...base }));
    try {
      await waitFor(() => this.#closed || this.#received === payload, { guardMs: 10_000 });
    } catch {
      return `the client that behaves waits for its message of ${payload}`;
    }
    if (this.#closed) return `the client that behaves was disconnected in ${payload}`;
    this.served++;
    return undefined;
  }

  end(): void {
    this.#socket.destroy();
  }
}
