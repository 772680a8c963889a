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
import { type Flight, Flights, packetOf, topicOf } from "./flights.ts";
import { Investigation, type Verdict } from "./investigation.ts";
import type { Outbox, TakenBatch } from "./port.ts";

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
  /** A close this long after a publish says nothing about it; 30,000 without it. */
  readonly ackTimeoutMs?: number;
}

export interface ForwarderDeps {
  readonly outbox: Outbox;
  /** The next live connection; undefined when the signal aborts. */
  readonly connected: (signal: AbortSignal) => Promise<Publisher | undefined>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** The default of the configuration. */
const ACK_TIMEOUT_MS = 30_000;

/** The window is filled in so many parts. */
const PARTS = 3;

type PackedFlight = Flight & { readonly packet: Uint8Array };

/**
 * Moves messages from the outbox to the service, over one connection after the other.
 *
 * - At most `window` messages are in flight. They are settled on their PUBACK, whatever its order.
 * - After a reconnect the ones in flight go first, in their order, with DUP and the packet ids they
 *   had [MQTT-4.4.0-1], [MQTT-3.3.1-1]; new ones follow. Within a stream first deliveries therefore
 *   keep their order (I2), and one cut repeats at most the window (I3).
 * - It decides nothing about connections: it asks for the next one and works until that one ends.
 * - When the service seems to close connections because of a message, fewer are sent at a time until
 *   that one is found and handed back to be set aside (suspicion.ts). What was set aside comes back
 *   now and then as a batch of one to be tried: it is sent with nothing else in flight.
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
  readonly #investigation: Investigation;
  /** Those in flight that were not sent on the connection of now. */
  readonly #unsent = new Set<Flight>();
  /** The one in flight that is tried again. */
  #trial: Flight | undefined;
  #loop: Promise<void> | undefined;
  readonly #life = new AbortController();

  constructor(options: ForwarderOptions, deps: ForwarderDeps) {
    assert(options.window >= 1 && options.window <= limits.windowMessages, "a sane window");
    this.#options = options;
    this.#deps = deps;
    const { window, ackTimeoutMs = ACK_TIMEOUT_MS } = options;
    this.#investigation = new Investigation({ window, ackTimeoutMs });
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
      if (close.notice !== undefined) this.#investigation.notice(close.notice);
      if (this.#trial) this.#endTrial(this.#trial, close);
      this.#investigate(close);
      this.#log.debug("connection ended", { reason: close.reason, inFlight: this.inFlight });
    }
  }

  async #serve(publisher: Publisher, signal: AbortSignal): Promise<Close> {
    this.#investigation.began();
    for (const flight of this.#inFlight.all()) this.#unsent.add(flight);
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
      const follows = !this.#investigation.isCalm || this.#unsent.size > 0;
      const { count, last } = this.#inFlight.land(range, follows ? this.#landed : undefined);
      if (last) {
        if (last === this.#trial) this.#trial = undefined;
        this.#investigation.wentThrough(last, count, this.#deps.clock.monotonicMs());
      }
      this.#deps.outbox.settle([range]);
      this.#room.notify();
    }
  }

  /** One message was acknowledged while more is known of single ones than their ids. */
  readonly #landed = (flight: Flight): void => {
    if (!this.#investigation.isCalm) this.#investigation.landed(flight);
    this.#unsent.delete(flight);
  };

  async #sendAll(publisher: Publisher, signal: AbortSignal): Promise<void> {
    const again = this.#inFlight.all();
    if (again.length > 0) {
      this.#log.info("sending again what was in flight", { messages: again.length });
      await this.#deps.clock.sleep(this.#investigation.probeMs, signal);
    }
    // Three parts take turns: one is made ready, one is on its way, one is being acknowledged. With
    // two, the service was found waiting for us and we for it, turn about.
    const part = Math.ceil(this.#options.window / PARTS);
    for (let next = 0; !signal.aborted; ) {
      const free = this.#investigation.window - (this.#inFlight.size - this.#unsent.size);
      if (free <= 0) {
        await this.#room.wait(signal);
      } else if (next < again.length) {
        const some = again.slice(next, next + free);
        next += some.length;
        this.#resend(publisher, some);
      } else {
        const most = Math.min(free, part);
        const messages = this.#options.maxRate === 0 ? most : await this.#paced(signal);
        const investigation = this.#investigation;
        const limit = {
          messages,
          bytes: limits.batchBytes,
          // Asked while it waits, too: the last suspect may land when there is nothing else to send.
          get trial() {
            return investigation.isCalm;
          },
        };
        const batch = await this.#deps.outbox.take(limit, signal);
        if (batch.count === 0) return; // Aborted, or the outbox has stopped.
        this.#inFlight.add(batch);
        if (batch.trial) await this.#try(publisher, batch, signal);
        // Taken is tracked: if the connection has ended meanwhile, the next one resends it.
        else if (!signal.aborted) this.#send(publisher, batch);
        else for (const flight of this.#inFlight.of(batch)) this.#unsent.add(flight);
      }
    }
  }

  #send(publisher: Publisher, batch: Batch): void {
    this.#investigation.published(this.#deps.clock.monotonicMs());
    publisher.send(batch);
  }

  /** With nothing else in flight, and nothing behind it until it has landed. */
  async #try(publisher: Publisher, batch: TakenBatch, signal: AbortSignal): Promise<void> {
    const [trial] = this.#inFlight.of(batch);
    assert(trial !== undefined && batch.count === 1, "a trial is one message");
    this.#trial = trial;
    this.#unsent.add(trial);
    while (this.#inFlight.size > 1 && !signal.aborted) await this.#room.wait(signal);
    if (signal.aborted) return;
    this.#unsent.delete(trial);
    this.#send(publisher, batch);
    while (this.#inFlight.has(trial) && !signal.aborted) await this.#room.wait(signal);
  }

  #endTrial(trial: Flight, close: Close): void {
    const proven = this.#investigation.provesGuilty(close);
    const unsent = this.#unsent.has(trial);
    this.#land(trial);
    this.#deps.outbox.trialEnded(trial, unsent ? "unsent" : proven ? "guilty" : "undecided");
  }

  #investigate(close: Close): void {
    const nowMs = this.#deps.clock.monotonicMs();
    const inFlight = this.#inFlight.all();
    const unacked = inFlight.filter((flight) => !this.#unsent.has(flight));
    const verdict = this.#investigation.ended(close, nowMs, unacked);
    if (verdict) this.#setAside(verdict, inFlight);
  }

  /** The guilty one; where its topic is guilty, all of that. */
  #setAside({ guilty, scope, topic, reason }: Verdict, inFlight: readonly Flight[]): void {
    const flights = inFlight.filter((flight) => {
      return flight === guilty || (scope === "topic" && topicOf(flight) === topic);
    });
    for (const flight of flights) this.#land(flight);
    this.#deps.outbox.setAside({ scope, topic, reason }, flights);
  }

  /** Not acknowledged, and yet not to be sent again. */
  #land(flight: Flight): void {
    const { epoch, seq } = flight;
    this.#inFlight.land({ epoch, from: seq, to: seq });
    this.#unsent.delete(flight);
    if (flight === this.#trial) this.#trial = undefined;
  }

  #resend(publisher: Publisher, again: readonly Flight[]): void {
    const flights = again
      .filter((flight) => this.#unsent.delete(flight))
      .map((flight) => ({ ...flight, packet: packetOf(flight) }));
    if (flights.length === 0) return;
    this.#resent += flights.length;
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
    this.#send(publisher, batch);
  }

  /** How many messages may go now: one, once its time has come. */
  async #paced(signal: AbortSignal): Promise<number> {
    const intervalMs = 1000 / this.#options.maxRate;
    const now = this.#deps.clock.monotonicMs();
    this.#paidUntilMs = Math.max(this.#paidUntilMs, now - intervalMs);
    const waitMs = this.#paidUntilMs + intervalMs - now;
    if (waitMs > 0) await this.#deps.clock.sleep(waitMs, signal);
    this.#paidUntilMs += intervalMs;
    return 1;
  }
}
