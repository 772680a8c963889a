/**
 * Many devices in one process that count every message, asked over IPC (`fleet-process.ts`), or used
 * where they are.
 *
 * A message carries its number, who it is for and when it was sent on the clock that all processes
 * of a machine share. Whoever receives it counts it once, counts repeats, and counts it apart when it
 * is for somebody else.
 */
import { setTimeout as pause } from "node:timers/promises";
import {
  makeConnectPassword,
  makeConnectUsername,
} from "../../../agent/protocol/connect-signature.ts";
import { Device } from "./device.ts";

export interface FleetOptions {
  readonly port: number;
  readonly accessKey: string;
  readonly secret: string;
  readonly instanceId: string;
}

export interface Devices {
  /** Client ids are `prefix` and a number from 0. */
  readonly prefix: string;
  readonly count: number;
  readonly clean: boolean;
}

export interface Load {
  /** How many messages, numbered from 0 over all senders of a run. */
  readonly count: number;
  readonly perSecond: number;
  /** A topic; `{id}` is replaced by `targets` and a number below `targetCount`, at random. */
  readonly topic: string;
  readonly targets?: string;
  readonly targetCount?: number;
}

export interface FleetReport {
  readonly sent: number;
  readonly acked: number;
  readonly received: number;
  readonly repeated: number;
  readonly misdirected: number;
  /** Connections that the service ended. */
  readonly lost: number;
  /** Of what was received for the first time; NaN where nothing was. */
  readonly latencyMs: { readonly p50: number; readonly p99: number; readonly max: number };
  /** From the first to the last message received, in milliseconds. */
  readonly receivingMs: number;
}

/** Devices that connect at the same time. */
const CONNECTING = 100;
const PAYLOAD_BYTES = 64;
/** The target of a message that is for whoever subscribed. */
const ANYBODY = 0xffffffff;
/** Not acknowledged and still sent on: bounded by the packet ids of a sender. */
const IN_FLIGHT = 60_000;
const TICK_MS = 5;

export class Fleet {
  readonly #options: FleetOptions;
  readonly #devices: Device[] = [];
  readonly #flight: Set<number>[] = [];
  #seen = new Uint8Array(0);
  #latencies = new Float32Array(0);
  #counts = { sent: 0, acked: 0, received: 0, repeated: 0, misdirected: 0, lost: 0 };
  #firstMs = 0;
  #lastMs = 0;

  constructor(options: FleetOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#devices.length;
  }

  async connect({ prefix, count, clean }: Devices): Promise<void> {
    const { port, accessKey, secret, instanceId } = this.#options;
    const username = makeConnectUsername({ mode: "Signature", accessKey, instanceId });
    let next = 0;
    const one = async (): Promise<void> => {
      while (next < count) {
        const number = next++;
        const clientId = `${prefix}${number}`;
        const flight = new Set<number>();
        const device = await Device.connect(
          { port, clientId, clean, username, password: makeConnectPassword(secret, clientId) },
          {
            message: (payload) => this.#message(payload, number),
            acked: (packetId) => {
              if (flight.delete(packetId)) this.#counts.acked++;
            },
            lost: () => {
              this.#counts.lost++;
            },
          },
        );
        this.#devices.push(device);
        this.#flight.push(flight);
      }
    };
    await Promise.all(Array.from({ length: Math.min(CONNECTING, count) }, one));
  }

  /** `{id}` stands for the client id. */
  async subscribe(filter: string): Promise<void> {
    for (let i = 0; i < this.#devices.length; i += CONNECTING) {
      const some = this.#devices.slice(i, i + CONNECTING);
      await Promise.all(some.map((one) => one.subscribe(filter.replace("{id}", one.clientId))));
    }
  }

  /** Forgets what was counted; numbers below `total` will be received. */
  reset(total: number): void {
    this.#seen = new Uint8Array(total);
    this.#latencies = new Float32Array(total);
    this.#counts = { sent: 0, acked: 0, received: 0, repeated: 0, misdirected: 0, lost: 0 };
    this.#firstMs = this.#lastMs = 0;
  }

  /** From all devices in turn, at a steady rate; resolves when all were sent. */
  async send(load: Load): Promise<void> {
    const startMs = nowMs();
    for (let number = 0; number < load.count; ) {
      const due = Math.floor(((nowMs() - startMs) * load.perSecond) / 1_000) + 1;
      for (; number < Math.min(due, load.count); number++) this.#sendOne(number, load);
      await pause(TICK_MS);
    }
  }

  /** As fast as acknowledgements come, `window` of each device in flight. */
  async flood(load: Load, window: number): Promise<void> {
    for (let number = 0; number < load.count; ) {
      this.#devices.forEach((_, i) => {
        const flight = this.#flight[i] as Set<number>;
        while (flight.size < window && number < load.count) this.#sendOne(number++, load, i);
      });
      await pause(0);
    }
  }

  /** Resolves when everything sent is acknowledged and `receive` messages came, or all is quiet. */
  async settled(receive: number, quietMs: number): Promise<FleetReport> {
    let before = -1;
    let sinceMs = nowMs();
    for (;;) {
      const { sent, acked, received } = this.#counts;
      if (acked >= sent && received >= receive) break;
      if (acked + received !== before) sinceMs = nowMs();
      else if (nowMs() - sinceMs > quietMs) break;
      before = acked + received;
      await pause(20);
    }
    return this.report();
  }

  report(): FleetReport {
    const known = this.#latencies.filter((_, i) => this.#seen[i] === 1).sort();
    const at = (share: number): number =>
      known[Math.min(known.length - 1, Math.floor(known.length * share))] ?? Number.NaN;
    return {
      ...this.#counts,
      latencyMs: { p50: at(0.5), p99: at(0.99), max: at(1) },
      receivingMs: this.#lastMs - this.#firstMs,
    };
  }

  end(): void {
    for (const device of this.#devices) device.end();
    this.#devices.length = 0;
    this.#flight.length = 0;
  }

  #sendOne(number: number, load: Load, from = number % this.#devices.length): void {
    const flight = this.#flight[from] as Set<number>;
    if (flight.size >= IN_FLIGHT) throw new Error("a sender gets no acknowledgements");
    const { targets, targetCount } = load;
    const target = targets === undefined ? ANYBODY : Math.floor(Math.random() * (targetCount ?? 1));
    const payload = Buffer.alloc(PAYLOAD_BYTES);
    payload.writeUInt32BE(number, 0);
    payload.writeUInt32BE(target, 4);
    payload.writeDoubleBE(nowMs(), 8);
    let packetId = (number % 0xffff) + 1;
    while (flight.has(packetId)) packetId = (packetId % 0xffff) + 1;
    flight.add(packetId);
    const topic = load.topic.replace("{id}", `${targets ?? ""}${target}`);
    this.#devices[from]?.publish(topic, payload, packetId);
    this.#counts.sent++;
  }

  #message(payload: Buffer, receiver: number): boolean {
    const number = payload.readUInt32BE(0);
    const target = payload.readUInt32BE(4);
    const atMs = nowMs();
    if (target !== ANYBODY && target !== receiver) this.#counts.misdirected++;
    else if (number >= this.#seen.length || this.#seen[number] === 1) this.#counts.repeated++;
    else {
      this.#seen[number] = 1;
      this.#latencies[number] = atMs - payload.readDoubleBE(8);
      this.#counts.received++;
      if (this.#firstMs === 0) this.#firstMs = atMs;
      this.#lastMs = atMs;
    }
    return true;
  }
}

/** The clock that all processes of this machine share, in milliseconds. */
function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
