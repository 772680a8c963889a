/**
 * One connection as packets: cuts and reads what comes, collects and writes what goes.
 *
 * Invariants
 * - At most one packet of the bound and one chunk of the socket wait to be read. While anyone
 *   holds the channel, nothing more is read from the socket, so a peer that sends without end
 *   meets its own full window.
 * - While the peer does not read what it is sent, nothing is read from it either: what it can make
 *   us answer is bounded by what was read before. Others who write here look at `buffered` first.
 * - What is written in one turn of the event loop leaves in one piece.
 * - `closed` is called exactly once, and no packet is handed on after `close`.
 */
import type { Duplex } from "node:stream";
import { isHoldfastError } from "../../agent/core/errors.ts";
import type { Deadlines } from "./deadlines.ts";
import { type Frame, Framer } from "./framer.ts";

/** Words for the log, those of the vendor's trace where it has one (lmq-protocol 7.2). */
export type CloseReason =
  | "not authorized"
  | "clientId conflict"
  | "resource auth failed"
  | "no heart"
  | "closed by client"
  | "disconnected by client"
  | "invalid param"
  | "Socket IOException"
  | "connect timeout"
  | "too many connections"
  | "storage failed"
  | "service stopped";

/** Why reading is held back. */
export type Hold = "connecting" | "replies" | "output" | "rate";

export interface ChannelHandlers {
  frame(frame: Frame): void;
  /** The socket takes output again. */
  drained(): void;
  /** Reading goes on after a hold: what the peer sent meanwhile is still to come. */
  resumed(): void;
  closed(reason: CloseReason, detail: string | undefined): void;
}

/** Output waiting for the peer above which nothing is read from it, in bytes. */
const OUTPUT_HIGH_BYTES = 262_144;
/** A peer that does not take the end of the stream is cut off after this, in milliseconds. */
const FAREWELL_MS = 1_000;

export class Channel {
  readonly #stream: Duplex;
  readonly #deadlines: Deadlines;
  readonly #handlers: ChannelHandlers;
  readonly #framer: Framer;
  readonly #holds = new Set<Hold>();
  #out: Buffer[] = [];
  #outBytes = 0;
  #closed = false;
  #ended = false;
  #reading = false;

  constructor(
    options: { readonly bound: number },
    deps: {
      readonly stream: Duplex;
      readonly deadlines: Deadlines;
      readonly handlers: ChannelHandlers;
    },
  ) {
    this.#stream = deps.stream;
    this.#deadlines = deps.deadlines;
    this.#handlers = deps.handlers;
    this.#framer = new Framer(options.bound);
  }

  start(): void {
    this.#stream.on("data", (chunk: Buffer) => {
      this.#framer.push(chunk);
      this.#read();
    });
    this.#stream.on("drain", () => {
      this.release("output");
      if (!this.#closed) this.#handlers.drained();
    });
    this.#stream.on("end", () => {
      this.#ended = true;
      // What came before the end and is held back is read first.
      if (this.#holds.size === 0) this.close("closed by client");
    });
    this.#stream.on("error", (error) => this.#gone("Socket IOException", error.message));
    this.#stream.on("close", () => this.#gone("closed by client", undefined));
  }

  /** Largest body taken from now on, in bytes. */
  set bound(bytes: number) {
    this.#framer.bound = bytes;
  }

  /** Bytes that the peer has not taken yet, as far as this process knows. */
  get buffered(): number {
    return this.#outBytes + this.#stream.writableLength;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Whether nothing is read for a reason that is ours and not the peer's. */
  get heldByUs(): boolean {
    return this.#holds.has("replies") || this.#holds.has("rate");
  }

  write(bytes: Buffer): void {
    if (this.#closed) return;
    if (this.#out.push(bytes) === 1) process.nextTick(() => this.#flush());
    this.#outBytes += bytes.length;
  }

  /** Nothing is read until every hold is released. */
  hold(why: Hold): void {
    this.#holds.add(why);
    this.#stream.pause();
  }

  release(why: Hold): void {
    if (!this.#holds.delete(why) || this.#holds.size > 0 || this.#closed) return;
    this.#handlers.resumed();
    this.#stream.resume();
    this.#read();
    if (this.#ended && this.#holds.size === 0) this.close("closed by client");
  }

  /** Sends what was written, then ends the connection. */
  close(reason: CloseReason, detail?: string): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    // What still comes is thrown away, so that the end of the stream is seen.
    this.#stream.removeAllListeners("data");
    this.#stream.resume();
    this.#stream.end(() => this.#stream.destroy());
    const farewell = this.#deadlines.after(FAREWELL_MS, () => this.#stream.destroy());
    this.#stream.once("close", () => this.#deadlines.cancel(farewell));
    this.#handlers.closed(reason, detail);
  }

  /** Ends the connection now. */
  destroy(reason: CloseReason): void {
    this.#gone(reason, undefined);
    this.#stream.destroy();
  }

  #read(): void {
    // A handler may release a hold while a frame is being handled: the loop below goes on then.
    if (this.#reading) return;
    this.#reading = true;
    try {
      while (!this.#closed && this.#holds.size === 0) {
        const frame = this.#framer.next();
        if (!frame) break;
        this.#handlers.frame(frame);
      }
    } catch (error) {
      if (!isHoldfastError(error, "protocol_error")) throw error;
      this.close("invalid param", error.message);
    } finally {
      this.#reading = false;
    }
  }

  #flush(): void {
    if (this.#out.length === 0 || this.#closed) return;
    const bytes = this.#out.length === 1 ? (this.#out[0] as Buffer) : Buffer.concat(this.#out);
    this.#out = [];
    this.#outBytes = 0;
    const taken = this.#stream.write(bytes);
    if (!taken && this.#stream.writableLength > OUTPUT_HIGH_BYTES) this.hold("output");
  }

  #gone(reason: CloseReason, detail: string | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#handlers.closed(reason, detail);
  }
}
