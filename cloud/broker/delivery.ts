/**
 * Everything that is pushed to one connected client.
 *
 * - live: what is published now goes straight out, or waits in a bounded queue while the client
 *   has as much unacknowledged as it may, or does not read.
 * - offline: what waits in the client's mailbox comes in batches (offline.ts).
 * - repeats: what is not acknowledged within the ack timeout is pushed again, marked as such
 *   [MQTT-3.3.1-1], up to the retry limit (lmq-protocol 1.4).
 *
 * Full: a message with a place on disk goes back there and comes with a batch; any other is dropped
 * and counted. The end of the connection: what was pushed cools down in the mailbox for the rest of
 * its ack timeout, what was not may be taken at once, and what has no place on disk is gone.
 */
import { BoundedQueue } from "../../agent/core/bounded-queue.ts";
import type { Clock } from "../../agent/core/clock.ts";
import type { CloudStorage, Qos } from "../storage/storage.ts";
import type { Budget } from "./budget.ts";
import type { Channel } from "./channel.ts";
import type { Deadline, Deadlines } from "./deadlines.ts";
import { Offline } from "./offline.ts";
import type { BrokerLimits, BrokerStats, BrokerTimings } from "./options.ts";
import { type AckKind, writeAck, writePublish } from "./packets.ts";

export interface Push {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: Qos;
  /** Its number in the mailbox; 0 when it is not kept. */
  readonly seq: number;
  pushes: number;
}

interface InFlight {
  readonly push: Push;
  /** What the client owes: for the message, or for our PUBREL. */
  owes: "ack" | "pubcomp";
  dueMs: number;
}

/** What a message costs in memory beside its payload, about, in bytes. */
const OVERHEAD_BYTES = 300;
/** Bytes that the client has not read above which it is sent nothing new. */
const OUTPUT_FULL_BYTES = 131_072;

export interface DeliveryDeps {
  readonly channel: Channel;
  readonly storage: CloudStorage;
  readonly deadlines: Deadlines;
  readonly clock: Clock;
  readonly budget: Budget;
  readonly stats: BrokerStats;
}

export class Delivery {
  readonly #clientId: string;
  readonly #limits: BrokerLimits;
  readonly #timings: BrokerTimings;
  readonly #deps: DeliveryDeps;
  readonly #inFlight = new Map<number, InFlight>();
  readonly #queue: BoundedQueue<Push>;
  #bytes = 0;
  #lastPacketId = 0;
  #retry: Deadline | undefined;
  readonly #offline: Offline;
  #ended = false;

  constructor(
    options: {
      readonly clientId: string;
      readonly limits: BrokerLimits;
      readonly timings: BrokerTimings;
      /** The keep-alive period in milliseconds, Infinity where there is none. */
      readonly keepAliveMs: number;
    },
    deps: DeliveryDeps,
  ) {
    this.#clientId = options.clientId;
    this.#limits = options.limits;
    this.#timings = options.timings;
    this.#deps = deps;
    this.#queue = new BoundedQueue(options.limits.liveMessages);
    this.#offline = new Offline(options, {
      ...deps,
      room: () => (this.#queue.length > 0 ? 0 : this.#limits.inFlight - this.#inFlight.size),
      push: (push) => this.#offered(push),
    });
  }

  /** Begins with what waits in the mailbox. */
  start(): void {
    this.#offline.start();
  }

  /** The payload of a publish to `$SYS/getOfflineMsg`. */
  pull(payload: Uint8Array): void {
    this.#offline.pull(payload);
  }

  /** Now, or when the client has room for it. */
  push(push: Push): void {
    if (this.#ended || !this.#takeBytes(push)) this.#noRoom(push);
    else if (this.#queue.length === 0 && this.#hasRoom(push)) this.#send(push);
    else if (!this.#queue.push(push)) {
      this.#giveBytes(push);
      this.#noRoom(push);
    }
  }

  /** The socket takes output again. */
  drained(): void {
    this.#refill();
  }

  /** An acknowledgement came; one for nothing is ignored, but a PUBREC ends with its PUBREL. */
  acknowledged(kind: AckKind, packetId: number): void {
    const flight = this.#inFlight.get(packetId);
    if (kind === "pubrec") {
      if (flight?.push.qos === 2) {
        flight.owes = "pubcomp";
        this.#touch(packetId, flight);
      }
      this.#deps.channel.write(writeAck("pubrel", packetId)); // [MQTT-4.3.3-1]
      return;
    }
    const expected = flight && (flight.push.qos === 1 ? "puback" : "pubcomp");
    if (!flight || kind !== expected) return;
    this.#inFlight.delete(packetId);
    this.#deps.stats.delivered++;
    this.#finished(flight.push);
    this.#refill();
  }

  /** The connection is gone. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#deps.deadlines.cancel(this.#retry);
    const { storage, stats } = this.#deps;
    for (const { push, dueMs } of this.#inFlight.values()) {
      this.#giveBytes(push);
      if (push.seq > 0) {
        storage.mailbox(this.#clientId)?.release(push.seq, push.pushes, dueMs);
      } else stats.dropped++;
    }
    this.#inFlight.clear();
    for (let push = this.#queue.poll(); push; push = this.#queue.poll()) {
      this.#giveBytes(push);
      this.#noRoom(push);
    }
    this.#offline.end();
  }

  /** What comes out of the mailbox may have used up its pushes on earlier connections. */
  #offered(push: Push): void {
    if (push.pushes < this.#timings.retryLimit) this.push(push);
    else this.#exhausted(push.seq);
  }

  #noRoom(push: Push): void {
    if (push.seq === 0) {
      this.#deps.stats.dropped++;
      return;
    }
    const { storage, clock } = this.#deps;
    storage.mailbox(this.#clientId)?.release(push.seq, push.pushes, clock.monotonicMs());
    this.#offline.schedule();
  }

  #hasRoom(push: Push): boolean {
    if (this.#deps.channel.buffered > OUTPUT_FULL_BYTES) return false;
    return push.qos === 0 || this.#inFlight.size < this.#limits.inFlight;
  }

  #refill(): void {
    while (this.#queue.length > 0 && !this.#ended) {
      // The strictest room: what is first in the queue may be of any QoS.
      if (this.#deps.channel.buffered > OUTPUT_FULL_BYTES) return;
      if (this.#inFlight.size >= this.#limits.inFlight) return;
      this.#send(this.#queue.poll() as Push);
    }
  }

  #send(push: Push): void {
    const packetId = push.qos > 0 ? this.#freePacketId() : 0;
    this.#write(push, packetId);
    if (push.qos === 0) {
      this.#giveBytes(push);
      return;
    }
    this.#touch(packetId, { push, owes: "ack", dueMs: 0 });
    this.#retry ??= this.#deps.deadlines.after(this.#timings.ackTimeoutMs, () => this.#repeat());
  }

  #write(push: Push, packetId: number): void {
    const { channel, stats } = this.#deps;
    const { topic, payload, qos } = push;
    channel.write(writePublish({ topic, payload, qos, dup: qos > 0 && push.pushes > 0, packetId }));
    stats.pushed++;
    if (push.pushes > 0) stats.repeated++;
    push.pushes++;
  }

  /** Starts the ack timeout anew; the map stays in the order of `dueMs`. */
  #touch(packetId: number, flight: InFlight): void {
    flight.dueMs = this.#deps.clock.monotonicMs() + this.#timings.ackTimeoutMs;
    this.#inFlight.delete(packetId);
    this.#inFlight.set(packetId, flight);
  }

  #repeat(): void {
    this.#retry = undefined;
    const nowMs = this.#deps.clock.monotonicMs();
    for (const [packetId, flight] of this.#inFlight) {
      if (flight.dueMs > nowMs) break;
      this.#repeatOne(packetId, flight);
    }
    const next = this.#inFlight.values().next().value;
    if (next) {
      this.#retry = this.#deps.deadlines.after(next.dueMs - nowMs, () => this.#repeat());
    }
    this.#refill();
  }

  #repeatOne(packetId: number, flight: InFlight): void {
    const { push } = flight;
    if (push.pushes >= this.#timings.retryLimit) {
      this.#inFlight.delete(packetId);
      this.#giveBytes(push);
      this.#exhausted(push.seq);
      return;
    }
    this.#touch(packetId, flight);
    // A client that does not read gets nothing on top, and it is not held against the message.
    if (this.#deps.channel.buffered > OUTPUT_FULL_BYTES) return;
    if (flight.owes === "ack") this.#write(push, packetId);
    else {
      push.pushes++;
      this.#deps.channel.write(writeAck("pubrel", packetId));
    }
  }

  #exhausted(seq: number): void {
    this.#deps.stats.exhausted++;
    if (seq > 0) this.#deps.storage.settle(this.#clientId, seq);
  }

  #finished(push: Push): void {
    this.#giveBytes(push);
    if (push.seq > 0) this.#deps.storage.settle(this.#clientId, push.seq);
  }

  #takeBytes(push: Push): boolean {
    const bytes = push.payload.length + OVERHEAD_BYTES;
    if (this.#bytes + bytes > this.#limits.liveBytes || !this.#deps.budget.take(bytes))
      return false;
    this.#bytes += bytes;
    return true;
  }

  #giveBytes(push: Push): void {
    const bytes = push.payload.length + OVERHEAD_BYTES;
    this.#bytes -= bytes;
    this.#deps.budget.give(bytes);
  }

  /** One that is not in flight; there always is, for the flight is bounded far below 65535. */
  #freePacketId(): number {
    do this.#lastPacketId = (this.#lastPacketId % 0xffff) + 1;
    while (this.#inFlight.has(this.#lastPacketId));
    return this.#lastPacketId;
  }
}
