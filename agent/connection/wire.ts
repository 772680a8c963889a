import { Duplex } from "node:stream";
import type { Clock } from "../core/clock.ts";
import type { Close } from "../core/message.ts";
import { FrameScanner, type Scanned } from "./frames.ts";

/**
 * The thin stream between a socket and mqtt.js. In: it takes out what is ours (frames.ts). Out: it
 * lets us write packets of our own beside those of mqtt.js.
 *
 * Packets never mix: mqtt.js hands over each of its packets within one turn, corked, so `_writev`
 * sees whole packets only, and our own writes go straight to the socket between two turns.
 *
 * Reading stops for two reasons, mqtt.js being busy and `hold`; writing never stops, because what
 * is written is bounded elsewhere (the window, the inbound bound) and mqtt.js must not wait for a
 * peer that waits for us.
 */
export interface WireEvents {
  received(scanned: Scanned): void;
  /** Once, and nothing after it. */
  ended(close: Close): void;
}

export interface WireOptions {
  readonly maxPayloadBytes: number;
}

export class Wire extends Duplex {
  readonly #socket: Duplex;
  readonly #scanner: FrameScanner;
  readonly #events: WireEvents;
  readonly #clock: Clock;
  #wanted = false;
  #held = false;
  #ended = false;
  bytesIn = 0;
  bytesOut = 0;
  /** Monotonic milliseconds; `resumedAtMs` is when `hold` last ended. */
  sentAtMs: number;
  resumedAtMs: number;

  constructor(
    options: WireOptions,
    deps: { readonly socket: Duplex; readonly clock: Clock; readonly events: WireEvents },
  ) {
    super({ emitClose: true, autoDestroy: true });
    this.#socket = deps.socket;
    this.#events = deps.events;
    this.#clock = deps.clock;
    this.#scanner = new FrameScanner(options);
    this.sentAtMs = this.resumedAtMs = deps.clock.monotonicMs();
    this.#socket.on("data", (chunk: Buffer) => this.#onData(chunk));
    this.#socket.on("end", () => this.#finish({ reason: "peer_closed" }));
    this.#socket.on("error", (error) => this.#finish({ reason: "network", error }));
    this.#socket.on("close", () => this.#finish({ reason: "peer_closed" }));
    this.#socket.pause();
  }

  /** True while `hold` keeps the reader from seeing what may long have come. */
  get held(): boolean {
    return this.#held;
  }

  /** Whole packets of ours, in one piece. */
  send(bytes: Uint8Array): void {
    if (this.#ended || this.#socket.destroyed || this.#socket.writableEnded) return;
    this.bytesOut += bytes.length;
    this.sentAtMs = this.#clock.monotonicMs();
    this.#socket.write(bytes);
  }

  hold(held: boolean): void {
    if (this.#held === held) return;
    this.#held = held;
    if (!held) this.resumedAtMs = this.#clock.monotonicMs();
    this.#setFlow();
  }

  /** Sends what is left and says goodbye; what still comes in is thrown away. */
  async finishWriting(last: Uint8Array, signal: AbortSignal): Promise<void> {
    while (this.writableCorked > 0) this.uncork(); // mqtt.js would do so in the next turn
    this.send(last);
    this.#ended = true;
    this.#socket.removeAllListeners("data");
    this.#socket.resume();
    if (this.#socket.destroyed) return;
    await new Promise<void>((resolve) => {
      this.#socket.once("close", resolve);
      signal.addEventListener("abort", () => resolve(), { once: true });
      if (signal.aborted) resolve();
      this.#socket.end();
    });
  }

  override _read(): void {
    this.#wanted = true;
    this.#setFlow();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.send(chunk);
    done();
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this.send(Buffer.concat(chunks.map(({ chunk }) => chunk)));
    done();
  }

  override _destroy(_error: Error | null, done: (error?: Error | null) => void): void {
    this.#ended = true;
    this.#socket.destroy();
    done();
  }

  #onData(chunk: Buffer): void {
    if (this.#ended) return;
    this.bytesIn += chunk.length;
    const scanned = this.#scanner.scan(chunk);
    this.#events.received(scanned);
    try {
      for (const part of scanned.pass) if (!this.#ended && !this.push(part)) this.#wanted = false;
    } catch (cause) {
      // The parser of mqtt.js runs within push; what it throws is about the bytes.
      const error = new Error("a packet cannot be read", { cause });
      this.#finish({ reason: "protocol", error });
    }
    if (scanned.error !== undefined) {
      const error = new Error(scanned.error);
      this.#finish({ reason: "protocol", error });
    } else if (scanned.disconnect !== undefined) {
      this.#finish(disconnected(scanned.disconnect));
    }
    this.#setFlow();
  }

  #setFlow(): void {
    if (this.#ended) return;
    // Asked after every read: a resume that changes nothing costs a turn of the stream's machinery.
    const flows = this.#wanted && !this.#held;
    if (flows === !this.#socket.isPaused()) return;
    if (flows) this.#socket.resume();
    else this.#socket.pause();
  }

  #finish(close: Close): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#events.ended(close);
  }
}

/** MQTT 5 section 3.14.2.1: 0x8E is "session taken over". 3.1.1 has no such packet; some send it. */
function disconnected(reasonCode: number): Close {
  if (reasonCode === 0x8e) return { reason: "takeover" };
  const error = new Error(`The service sent DISCONNECT with reason code ${reasonCode}.`);
  return { reason: "peer_closed", error };
}
