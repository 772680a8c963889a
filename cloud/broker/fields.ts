import { isUtf8 } from "node:buffer";
import { HoldfastError } from "../../agent/core/errors.ts";

/** The fields of one packet from front to back; throws `protocol_error` where there is none. */
export class Fields {
  readonly #body: Buffer;
  #at = 0;

  constructor(body: Buffer) {
    this.#body = body;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#body.length;
  }

  byte(): number {
    const value = this.#body[this.#at];
    if (value === undefined) throw malformed("A packet ends too early.");
    this.#at++;
    return value;
  }

  uint16(): number {
    return this.byte() * 256 + this.byte();
  }

  /** Two bytes of length and what follows: a view. */
  bytes(): Buffer {
    const length = this.uint16();
    const end = this.#at + length;
    if (end > this.#body.length) throw malformed("A field is longer than its packet.");
    const bytes = this.#body.subarray(this.#at, end);
    this.#at = end;
    return bytes;
  }

  /** [MQTT-1.5.3-1] and [MQTT-1.5.3-2]; a byte order mark is kept [MQTT-1.5.3-3]. */
  text(): string {
    const bytes = this.bytes();
    if (!isUtf8(bytes)) throw malformed("A text is not UTF-8.");
    if (bytes.includes(0)) throw malformed("A text holds U+0000.");
    return bytes.toString("utf8");
  }

  /** Nothing may be left. */
  end(): void {
    if (!this.isAtEnd) throw malformed("A packet has bytes behind its end.");
  }
}

export function malformed(message: string): HoldfastError {
  return new HoldfastError("protocol_error", message, { details: { reason: "malformed" } });
}
