/**
 * Messages that came together, as one record: a commit of a hundred publishes writes one value, not
 * a hundred. The header is JSON (age and tags of the pack, then one array a message), the bodies follow as
 * they came.
 */
import { HoldfastError } from "../../agent/core/errors.ts";
import type { Codec } from "../../agent/store/store.ts";

/** Of a message that came over MQTT; lmq-protocol 8. */
export interface MqttOrigin {
  readonly qos: number;
  readonly clientId: string;
  /** The sender's session was a clean one. */
  readonly clean: boolean;
  /** The sender asked for order on this connection (`$SYS/enableOrderMsg`). */
  readonly ordered: boolean;
  /** The topic below the parent, with its leading slash; empty for the parent itself. */
  readonly second: string;
}

/** Of a message that was produced over HTTP, or by the service itself. */
export interface MqOrigin {
  readonly tag: string;
  readonly properties: Readonly<Record<string, string>>;
}

export type Origin = MqttOrigin | MqOrigin;

export interface Message {
  readonly tag: string;
  readonly properties: Readonly<Record<string, string>>;
  /** Unix milliseconds. */
  readonly bornAt: number;
  readonly body: Uint8Array;
}

/** Body bytes and birth, then flags, second topic and client id; or tag and properties. */
type Entry =
  | readonly [number, number, number, string, string]
  | readonly [number, number, string, Readonly<Record<string, string>>];

export interface Pack {
  /** The age of the service when it was made (storage/age.ts). */
  readonly keptAt: number;
  /** Each tag once; nearly always one. */
  readonly tags: readonly string[];
  readonly entries: readonly Entry[];
  readonly bodies: Uint8Array;
}

const CLEAN = 4;
const ORDERED = 8;
const FIRST_BYTES = 4_096;

/** A pack being filled. */
export class PackWriter {
  readonly #entries: Entry[] = [];
  readonly #tags = new Set<string>();
  #bodies = Buffer.allocUnsafeSlow(FIRST_BYTES);
  #used = 0;

  get count(): number {
    return this.#entries.length;
  }

  get bodyBytes(): number {
    return this.#used;
  }

  /** Copies the body. */
  add(origin: Origin, body: Uint8Array, bornAt: number): void {
    this.#reserve(body.length);
    this.#bodies.set(body, this.#used);
    this.#used += body.length;
    if ("tag" in origin) {
      this.#tags.add(origin.tag);
      this.#entries.push([body.length, bornAt, origin.tag, origin.properties]);
      return;
    }
    const { qos, clean, ordered, second, clientId } = origin;
    const flags = qos | (clean ? CLEAN : 0) | (ordered ? ORDERED : 0);
    this.#tags.add("");
    this.#entries.push([body.length, bornAt, flags, second, clientId]);
  }

  finish(keptAt: number): Pack {
    return {
      keptAt,
      tags: [...this.#tags],
      entries: this.#entries,
      bodies: this.#bodies.subarray(0, this.#used),
    };
  }

  #reserve(more: number): void {
    const needed = this.#used + more;
    if (needed <= this.#bodies.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#bodies.length));
    larger.set(this.#bodies.subarray(0, this.#used));
    this.#bodies = larger;
  }
}

export function tagOf(pack: Pack, index: number): string {
  const third = (pack.entries[index] as Entry)[2];
  return typeof third === "string" ? third : "";
}

/** Whose order the message keeps; undefined for one whose sender did not ask for any. */
export function orderKeyOf(pack: Pack, index: number): string | undefined {
  const entry = pack.entries[index] as Entry;
  return entry.length === 5 && (entry[2] & ORDERED) !== 0 ? entry[4] : undefined;
}

/** One message of it; what came over MQTT gets the properties that lmq-protocol 8 calls readable. */
export function messageAt(pack: Pack, index: number): Message {
  let start = 0;
  for (let i = 0; i < index; i++) start += (pack.entries[i] as Entry)[0];
  const entry = pack.entries[index] as Entry;
  const body = pack.bodies.subarray(start, start + entry[0]);
  const bornAt = entry[1];
  if (entry.length === 4) return { tag: entry[2], properties: entry[3], bornAt, body };
  const [, , flags, mqttSecondTopic, clientId] = entry;
  const properties = {
    mqttSecondTopic,
    qoslevel: String(flags & 3),
    cleansessionflag: String((flags & CLEAN) !== 0),
    clientId,
  };
  return { tag: "", properties, bornAt, body };
}

/** Four bytes of header length, the header, the bodies. */
export const packCodec: Codec<Pack> = {
  encode: ({ keptAt, tags, entries, bodies }) => {
    const header = Buffer.from(JSON.stringify([keptAt, tags, entries]));
    const bytes = Buffer.allocUnsafe(4 + header.length + bodies.length);
    bytes.writeUInt32BE(header.length, 0);
    header.copy(bytes, 4);
    bytes.set(bodies, 4 + header.length);
    return bytes;
  },
  decode: (given) => {
    const bytes = Buffer.from(given.buffer, given.byteOffset, given.byteLength);
    const end = 4 + bytes.readUInt32BE(0);
    const header: unknown = JSON.parse(bytes.toString("utf8", 4, end));
    const [keptAt, tags, entries] = Array.isArray(header) ? (header as unknown[]) : [];
    if (typeof keptAt !== "number" || !isTexts(tags) || !isEntries(entries)) throw damaged();
    const bodies = bytes.subarray(end);
    const total = entries.reduce((sum, entry) => sum + entry[0], 0);
    if (entries.length === 0 || total !== bodies.length) throw damaged();
    return { keptAt, tags, entries, bodies };
  },
};

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === "string");
}

function isEntries(value: unknown): value is readonly Entry[] {
  return Array.isArray(value) && value.every(isEntry);
}

function isEntry(value: unknown): value is Entry {
  if (!Array.isArray(value)) return false;
  const [bytes, bornAt, third, fourth, fifth] = value as readonly unknown[];
  if (typeof bytes !== "number" || typeof bornAt !== "number") return false;
  return typeof third === "number"
    ? typeof fourth === "string" && typeof fifth === "string"
    : typeof third === "string" && typeof fourth === "object" && fourth !== null;
}

function damaged(): HoldfastError {
  return new HoldfastError("store_damaged", "A record that should hold messages holds no such.");
}
