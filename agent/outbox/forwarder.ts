import { assert } from "../core/assert.ts";
import type { Clock } from "../core/clock.ts";
import type { Component } from "../core/component.ts";
import { limits } from "../core/limits.ts";
import { LinkedAbort } from "../core/linked-abort.ts";
import type { Logger } from "../core/log.ts";
import type { Batch, Close, IdRange } from "../core/message.ts";
import { markDuplicate, writePacketId } from "../core/publish-packet.ts";
import { Wakeup } from "../core/wakeup.ts";
import { toBatch } from "./batch.ts";
import { type Flight, Flights, packetOf } from "./flights.ts";
import type { Outbox } from "./port.ts";

/** One connection, as the forwarder sees it; the session fits it. */
export interface Publisher {
  /** Writes the packets in one piece; their packet ids are in place. Never blocks. */
  send(batch: Batch): void;
  /** What the service acknowledged, in the order of arrival; ends with the connection. */
  acks(signal: AbortSignal): AsyncIterable<IdRange>;
  readonly closed: Promise<Close>;
}

export interface ForwarderOptions {
  /** Messages sent and not yet acknowledged, at most. */
  readonly window: number;
  /** Messages a second; 0 is no limit. */
  readonly maxRate: number;
}

export interface ForwarderDeps {
  readonly outbox: Outbox;
  /** The next live connection; undefined when the signal aborts. */
  readonly connected: (signal: AbortSignal) => Promise<Publisher | undefined>;
  readonly clock: Clock;
  readonly log: Logger;
}

type PackedFlight = Flight & { readonly packet: Uint8Array };

/**
 * Moves messages from the outbox to the service, over one connection after the other.
 *
 * - At most `window` messages are in flight. They are settled on their PUBACK, whatever its order.
 * - After a reconnect the ones in flight go first, in their order, with DUP and the packet ids they
 *   had [MQTT-4.4.0-1], [MQTT-3.3.1-1]; new ones follow. Within a stream first deliveries therefore
 *   keep their order (I2), and one cut repeats at most the window (I3).
 * - It decides nothing about connections: it asks for the next one and works until that one ends.
 */
export class Forwarder implements Component {
  readonly name = "forwarder";
  readonly #options: ForwarderOptions;
  readonly #deps: ForwarderDeps;
  readonly #log: Logger;
  readonly #inFlight = new Flights();
  readonly #room = new Wakeup();
  /** Moment up to which the rate is used up. */
  #paidUntilMs = 0;
  #resent = 0;
  #loop: Promise<void> | undefined;
  readonly #life = new AbortController();

  constructor(options: ForwarderOptions, deps: ForwarderDeps) {
    assert(options.window >= 1 && options.window <= limits.windowMessages, "a sane window");
    this.#options = options;
    this.#deps = deps;
    this.#log = deps.log.child("forwarder");
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  /** Messages sent again after a connection ended, since the start. */
  get resent(): number {
    return this.#resent;
  }

  async start(): Promise<void> {
    this.#loop ??= this.#run(this.#life.signal);
  }

  async stop(): Promise<void> {
    this.#life.abort();
    await this.#loop;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const publisher = await this.#deps.connected(signal);
      if (!publisher || signal.aborted) return;
      this.#deps.outbox.setOnline(true);
      const close = await this.#serve(publisher, signal);
      this.#deps.outbox.setOnline(false);
      this.#log.debug("connection ended", { reason: close.reason, inFlight: this.inFlight });
    }
  }

  async #serve(publisher: Publisher, signal: AbortSignal): Promise<Close> {
    const ended = new LinkedAbort(signal);
    const close = publisher.closed.finally(() => ended.abort());
    const stopped = ended.aborted.then((): Promise<Close> | Close =>
      signal.aborted ? { reason: "stopped" } : close,
    );
    const loops = Promise.all([
      this.#settleAcks(publisher, ended.signal),
      this.#sendAll(publisher, ended.signal),
    ]);
    // A loop that throws is a broken assumption: it ends the process, not just the sending.
    const result = await Promise.race([stopped, loops.then(() => stopped)]);
    ended.abort();
    await loops;
    return result;
  }

  async #settleAcks(publisher: Publisher, signal: AbortSignal): Promise<void> {
    for await (const range of publisher.acks(signal)) {
      for (let seq = range.from; seq <= range.to; seq++) {
        this.#inFlight.land(range.epoch, seq);
      }
      this.#deps.outbox.settle([range]);
      this.#room.notify();
    }
  }

  async #sendAll(publisher: Publisher, signal: AbortSignal): Promise<void> {
    this.#resend(publisher);
    // Two halves take turns: while one is on its way, the other is made ready.
    const half = Math.ceil(this.#options.window / 2);
    while (!signal.aborted) {
      const free = this.#options.window - this.#inFlight.size;
      if (free <= 0) {
        await this.#room.wait(signal);
        continue;
      }
      const messages = await this.#paced(Math.min(free, half), signal);
      const batch = await this.#deps.outbox.take({ messages, bytes: limits.batchBytes }, signal);
      if (batch.count === 0) return; // Aborted, or the outbox has stopped.
      this.#inFlight.add(batch);
      // Taken is tracked: if the connection has ended meanwhile, the next one resends it.
      if (!signal.aborted) publisher.send(batch);
    }
  }

  #resend(publisher: Publisher): void {
    if (this.#inFlight.size === 0) return;
    const flights = this.#inFlight.all().map((flight) => ({ ...flight, packet: packetOf(flight) }));
    this.#resent += flights.length;
    this.#log.info("sending again what was in flight", { messages: flights.length });
    let part: PackedFlight[] = [];
    let bytes = 0;
    for (const flight of flights) {
      if (part.length > 0 && bytes + flight.packet.length > limits.batchBytes) {
        this.#sendAgain(publisher, part);
        part = [];
        bytes = 0;
      }
      part.push(flight);
      bytes += flight.packet.length;
    }
    this.#sendAgain(publisher, part);
  }

  #sendAgain(publisher: Publisher, flights: readonly PackedFlight[]): void {
    for (const { packet } of flights) markDuplicate(packet, 0);
    const batch = toBatch(flights);
    flights.forEach(({ packetId }, i) => {
      writePacketId(batch.bytes, batch.packetIdAt[i] as number, packetId);
    });
    publisher.send(batch);
  }

  /** How many messages may go now; waits until at least one may. */
  async #paced(free: number, signal: AbortSignal): Promise<number> {
    const { maxRate } = this.#options;
    if (maxRate === 0) return free;
    const intervalMs = 1000 / maxRate;
    const now = this.#deps.clock.monotonicMs();
    this.#paidUntilMs = Math.max(this.#paidUntilMs, now - intervalMs);
    const waitMs = this.#paidUntilMs + intervalMs - now;
    if (waitMs > 0) await this.#deps.clock.sleep(waitMs, signal);
    this.#paidUntilMs += intervalMs;
    return 1;
  }
}
