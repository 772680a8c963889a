import { HoldfastError } from "../../agent/core/errors.ts";

/** One packet as it came: the first byte, and what follows the remaining length. */
export interface Frame {
  readonly first: number;
  readonly body: Buffer;
}

/**
 * Cuts a stream of bytes into packets (MQTT 3.1.1 section 2.2). The announced length is held
 * against the bound as soon as it can be read, so nobody makes us buffer more than one packet of
 * the bound plus one chunk of the socket.
 */
export class Framer {
  /** Bytes of the largest body taken; may change while the stream runs. */
  bound: number;
  #parts: Buffer[] = [];
  #have = 0;
  /** Bytes of the packet under way, header included; 0 while its header is not whole. */
  #need = 0;

  constructor(bound: number) {
    this.bound = bound;
  }

  get buffered(): number {
    return this.#have;
  }

  push(chunk: Buffer): void {
    this.#parts.push(chunk);
    this.#have += chunk.length;
  }

  /** The next whole packet; throws `protocol_error` for a length that is malformed or too large. */
  next(): Frame | undefined {
    if (this.#have < Math.max(2, this.#need)) return undefined;
    const bytes = this.#joined();
    const header = readHeader(bytes);
    if (!header) return undefined;
    if (header.bodyBytes > this.bound) {
      throw new HoldfastError(
        "protocol_error",
        `A packet of ${header.bodyBytes} bytes is announced, ${this.bound} are allowed.`,
        { details: { reason: "too_large" } },
      );
    }
    const end = header.headerBytes + header.bodyBytes;
    this.#need = end;
    if (this.#have < end) return undefined;
    this.#need = 0;
    this.#have -= end;
    this.#parts = this.#have > 0 ? [bytes.subarray(end)] : [];
    return { first: bytes[0] as number, body: bytes.subarray(header.headerBytes, end) };
  }

  #joined(): Buffer {
    if (this.#parts.length > 1) this.#parts = [Buffer.concat(this.#parts)];
    return this.#parts[0] as Buffer;
  }
}

/** Undefined while the remaining length is not whole; [MQTT-2.2.3] allows it four bytes. */
function readHeader(bytes: Buffer): { headerBytes: number; bodyBytes: number } | undefined {
  let bodyBytes = 0;
  for (let i = 1; i <= 4; i++) {
    const byte = bytes[i];
    if (byte === undefined) return undefined;
    bodyBytes += (byte & 0x7f) * 2 ** (7 * (i - 1));
    if (byte < 0x80) return { headerBytes: i + 1, bodyBytes };
  }
  throw new HoldfastError("protocol_error", "The remaining length has more than four bytes.", {
    details: { reason: "malformed" },
  });
}
