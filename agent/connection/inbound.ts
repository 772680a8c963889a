import { BoundedQueue } from "../core/bounded-queue.ts";
import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import type { Close, IncomingMessage } from "../core/message.ts";
import type { Arrival } from "./mqtt-link.ts";
import type { InboundBound } from "./types.ts";

/**
 * What comes in, from all connections, for one consumer.
 *
 * Invariants
 * - The reader never waits: a message is queued, its acknowledgement leaves when it is accepted.
 * - Acknowledgements of one connection leave in the order in which its PUBLISHes came
 *   [MQTT-4.6.0-2], [MQTT-4.6.0-3]: an accepted message waits for those before it.
 * - A message that the service repeats on the same connection before its acknowledgement is in hand
 *   already: it is counted and not delivered again, and acknowledged once. A second acknowledgement
 *   could hit a new message that was given the same packet id.
 * - A QoS 2 message is delivered once, also when the connection is cut before its PUBREC or between
 *   PUBREC and PUBREL: its packet id stays in the ledger until PUBREL, or until the service says
 *   that it has no session of ours any more. The ledger lives as long as the process.
 * - At the bound of unaccepted messages or bytes the socket is paused, and goes on at half of it.
 *   What one read brought comes on top of the bound. Until a connection is online twice as much is
 *   taken, because the SUBACK that makes it online comes behind the messages.
 *
 * When a connection ends: what is queued is still delivered, and its `accept` does nothing, but for
 * QoS 2, where it is remembered. Messages that the consumer holds no longer count.
 */
export interface InboundLink {
  readonly close: Close | undefined;
  write(packets: Uint8Array): void;
  hold(held: boolean): void;
  abort(close: Close): void;
}

/** Above the bound there is room for what one read can bring: 64 KiB of the smallest packets. */
const OVERSHOOT_MESSAGES = 65_536;
/** What a queued message costs besides its payload and topic, about. */
const MESSAGE_OVERHEAD_BYTES = 256;
/** Whoever may send to us can send too much: a line a minute, the counter has the rest. */
const OVERSIZED_LOG_EVERY_MS = 60_000;

interface Held {
  readonly message: IncomingMessage;
  readonly bytes: number;
  /** Handed to the consumer. */
  taken: boolean;
  counted: boolean;
}

/** One per QoS 2 packet id between PUBLISH and PUBREL. */
interface LedgerEntry {
  accepted: boolean;
  /** Tells the connection that waits for it now. */
  notify: () => void;
}

export class Inbox {
  readonly #bound: InboundBound;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #queue: BoundedQueue<Held>;
  readonly #ledger = new Map<number, LedgerEntry>();
  #messages = 0;
  #bytes = 0;
  #current: InboundConnection | undefined;
  #online = false;
  #oversizedLoggedMs = Number.NEGATIVE_INFINITY;
  readonly counters = { oversized: 0, duplicates: 0, pauses: 0 };

  constructor(bound: InboundBound, deps: { readonly clock: Clock; readonly log: Logger }) {
    this.#bound = bound;
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#queue = new BoundedQueue(bound.messages + OVERSHOOT_MESSAGES);
  }

  /** The way in of a new connection; the one before it has ended. */
  attach(link: InboundLink): InboundConnection {
    const connection = new InboundConnection(link, {
      ledger: this.#ledger,
      deliver: (held) => this.#deliver(held),
      release: (held) => this.#release(held),
      duplicate: () => this.counters.duplicates++,
      oversized: (arrival) => this.#oversized(arrival),
    });
    this.#current = connection;
    this.#online = false;
    return connection;
  }

  /** The connection that was attached last is online. */
  online(): void {
    this.#online = true;
    this.#setFlow();
  }

  /** The service has no session of ours: no PUBREL will come for what it forgot. */
  forgetSession(): void {
    this.#ledger.clear();
  }

  async *messages(signal: AbortSignal): AsyncIterable<IncomingMessage> {
    for (;;) {
      const held = await this.#queue.shift(signal);
      if (!held) return;
      held.taken = true;
      // Nobody owns a QoS 0 message, or one whose connection is gone: nothing else releases it.
      if (!this.#current?.owns(held)) this.#release(held);
      yield held.message;
    }
  }

  close(): void {
    this.#queue.close();
  }

  #deliver(held: Held): boolean {
    if (!this.#queue.push(held)) return false;
    this.#messages++;
    this.#bytes += held.bytes;
    this.#setFlow();
    return true;
  }

  #release(held: Held): void {
    if (!held.counted) return;
    held.counted = false;
    this.#messages--;
    this.#bytes -= held.bytes;
    this.#setFlow();
  }

  #setFlow(): void {
    const factor = this.#online ? 1 : 2;
    const messages = this.#bound.messages * factor;
    const bytes = this.#bound.bytes * factor;
    if (this.#messages >= messages || this.#bytes >= bytes) {
      if (this.#current?.hold(true)) this.counters.pauses++;
    } else if (this.#messages <= messages / 2 && this.#bytes <= bytes / 2) {
      this.#current?.hold(false);
    }
  }

  #oversized({ topic, oversizeBytes }: Arrival): void {
    const count = ++this.counters.oversized;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#oversizedLoggedMs < OVERSIZED_LOG_EVERY_MS) return;
    this.#oversizedLoggedMs = nowMs;
    this.#log.warn("inbound message too large", { topic, bytes: oversizeBytes, count });
  }
}

/** An acknowledgement in its place in the line. */
interface Slot {
  readonly packetId: number;
  readonly type: 0x40 | 0x50; // PUBACK, PUBREC
  readonly ready: () => boolean;
}

interface InboxPort {
  readonly ledger: Map<number, LedgerEntry>;
  readonly deliver: (held: Held) => boolean;
  readonly release: (held: Held) => void;
  readonly duplicate: () => void;
  readonly oversized: (arrival: Arrival) => void;
}

/** One connection's part: which acknowledgements it owes, and in which order. */
export class InboundConnection {
  readonly #link: InboundLink;
  readonly #inbox: InboxPort;
  readonly #held = new Set<Held>();
  #line: Slot[] = [];
  readonly #owed = new Set<number>();
  #flushing = false;
  #paused = false;

  constructor(link: InboundLink, inbox: InboxPort) {
    this.#link = link;
    this.#inbox = inbox;
  }

  arrived(arrival: Arrival): void {
    const { packetId, qos } = arrival;
    if (arrival.oversizeBytes !== undefined) this.#inbox.oversized(arrival);
    if (qos > 0 && this.#owed.has(packetId)) this.#inbox.duplicate();
    else if (qos === 2) this.#arrivedQos2(arrival);
    else this.#arrivedQos01(arrival);
  }

  /** PUBREL: the id is free again [MQTT-4.3.3-2]. */
  released(packetId: number): void {
    if (this.#inbox.ledger.get(packetId)?.accepted) this.#inbox.ledger.delete(packetId);
    this.#link.write(acknowledgement(0x70, packetId));
  }

  /** True when this changed something. */
  hold(held: boolean): boolean {
    if (this.#paused === held || this.#link.close) return false;
    this.#paused = held;
    this.#link.hold(held);
    return true;
  }

  owns(held: Held): boolean {
    return this.#held.has(held);
  }

  /** The connection is over: nothing is owed on it any more. */
  ended(): void {
    const held = [...this.#held];
    this.#held.clear();
    this.#line = [];
    for (const one of held) if (one.taken) this.#inbox.release(one);
  }

  #arrivedQos01(arrival: Arrival): void {
    const { packetId, qos } = arrival;
    let accepted = arrival.oversizeBytes !== undefined;
    if (qos === 1) this.#owe({ packetId, type: 0x40, ready: () => accepted });
    const onAccept = (): void => {
      accepted = true;
      this.#flushSoon();
    };
    if (accepted) onAccept();
    else this.#deliver(arrival, onAccept);
  }

  #arrivedQos2(arrival: Arrival): void {
    const { packetId } = arrival;
    const known = this.#inbox.ledger.get(packetId);
    const entry = known ?? { accepted: false, notify: () => undefined };
    entry.notify = () => this.#flushSoon();
    this.#inbox.ledger.set(packetId, entry);
    this.#owe({ packetId, type: 0x50, ready: () => entry.accepted });
    if (known) this.#inbox.duplicate();
    else if (arrival.oversizeBytes !== undefined) entry.accepted = true;
    else {
      this.#deliver(arrival, () => {
        entry.accepted = true;
        entry.notify();
      });
    }
    this.#flushSoon();
  }

  #deliver(arrival: Arrival, onAccept: () => void): void {
    const { topic, payload, qos, dup } = arrival;
    let accepted = qos === 0;
    const accept = (): void => {
      if (accepted) return;
      accepted = true;
      this.#held.delete(held);
      this.#inbox.release(held);
      onAccept();
    };
    const bytes = payload.length + topic.length + MESSAGE_OVERHEAD_BYTES;
    const message = { topic, payload, qos, dup, accept };
    const held: Held = { message, bytes, taken: false, counted: true };
    if (qos > 0) this.#held.add(held);
    if (this.#inbox.deliver(held)) return;
    const error = new Error("more came in than one read can bring");
    this.#link.abort({ reason: "protocol", error });
  }

  #owe(slot: Slot): void {
    this.#owed.add(slot.packetId);
    this.#line.push(slot);
  }

  /** At the end of the turn, so that what one commit released leaves in one write. */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#link.close) return;
    let count = 0;
    while (this.#line[count]?.ready()) count++;
    if (count === 0) return;
    const ready = this.#line.slice(0, count);
    this.#line = this.#line.slice(count);
    for (const { packetId } of ready) this.#owed.delete(packetId);
    this.#link.write(
      Buffer.concat(ready.map(({ type, packetId }) => acknowledgement(type, packetId))),
    );
  }
}

function acknowledgement(type: 0x40 | 0x50 | 0x70, packetId: number): Uint8Array {
  return Uint8Array.of(type, 2, packetId >> 8, packetId & 0xff);
}
