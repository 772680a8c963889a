/** What every contender carries: 256 bytes with a counter, from a seed, the same for all of them. */
import { SeededRandom } from "../support/seeded-random.ts";

export type PayloadKind = "random" | "json";

export const PAYLOAD_BYTES = 256;
/** First byte of a random payload; one of JSON starts with a brace. */
export const RANDOM_MARK = 0x01;
/** In JSON: behind `{"n":`, always ten digits. */
const COUNTER_AT = 5;
const COUNTER_DIGITS = 10;
const COUNTER_BASE = 1_000_000_000;
const SEED = 20_261_123;

/**
 * Payload number `counter`. A fresh block of pseudo-random words for each message: a pool of
 * payloads would be found again by the compression of a database.
 */
export class Payloads {
  readonly #kind: PayloadKind;
  readonly #random = new SeededRandom(SEED);
  #state = SEED;

  constructor(kind: PayloadKind) {
    this.#kind = kind;
  }

  make(counter: number): Uint8Array {
    return this.#kind === "random" ? this.#randomBytes(counter) : this.#telemetry(counter);
  }

  #randomBytes(counter: number): Uint8Array {
    const payload = Buffer.allocUnsafe(PAYLOAD_BYTES);
    payload[0] = RANDOM_MARK;
    // xorshift32: a few nanoseconds a word, so that making payloads is no contender's cost.
    let state = this.#state;
    for (let at = 5; at < PAYLOAD_BYTES; at += 4) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      payload[at] = state;
      if (at + 1 < PAYLOAD_BYTES) payload[at + 1] = state >>> 8;
      if (at + 2 < PAYLOAD_BYTES) payload[at + 2] = state >>> 16;
      if (at + 3 < PAYLOAD_BYTES) payload[at + 3] = state >>> 24;
    }
    this.#state = state;
    payload.writeUInt32BE(counter, 1);
    return payload;
  }

  /** What a gateway of ours sends: slowly changing values under the same names. */
  #telemetry(counter: number): Uint8Array {
    const value = (base: number, spread: number): string =>
      (base + (this.#random.float() - 0.5) * spread).toFixed(2);
    const body =
      `{"n":${COUNTER_BASE + counter},"device":"line-4/press-2","ts":${1_795_000_000_000 + counter * 250},` +
      `"temperature":${value(41, 3)},"pressure":${value(6.2, 0.4)},"vibration":${value(0.9, 0.8)},` +
      `"rpm":${value(1_480, 12)},"current":[${value(7, 1)},${value(7, 1)},${value(7, 1)}],` +
      `"state":"running","alarm":false,"pad":"`;
    return Buffer.from(`${body.padEnd(PAYLOAD_BYTES - 2, "-")}"}`);
  }
}

/** The counter of the payload at `at`; undefined when it is none of ours. */
export function counterAt(bytes: Buffer, at: number): number | undefined {
  if (bytes[at] === RANDOM_MARK) return bytes.readUInt32BE(at + 1);
  if (bytes[at] !== 0x7b) return undefined;
  let counter = 0;
  for (let i = 0; i < COUNTER_DIGITS; i++) {
    counter = counter * 10 + ((bytes[at + COUNTER_AT + i] as number) - 0x30);
  }
  return counter - COUNTER_BASE;
}
