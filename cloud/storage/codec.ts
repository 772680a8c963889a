/** How sessions and messages look on disk. The store adds the checksum. */
import { HoldfastError } from "../../agent/core/errors.ts";
import type { Codec } from "../../agent/store/store.ts";

export type Qos = 0 | 1 | 2;

export interface StoredSession {
  /** Granted QoS by filter. */
  readonly subscriptions: Readonly<Record<string, Qos>>;
}

export interface StoredMessage {
  /** Whom it waits for. */
  readonly clientId: string;
  readonly topic: string;
  readonly payload: Uint8Array;
  /** Sent to this client by its id (lmq-protocol 5), not through a subscription. */
  readonly direct: boolean;
  /** When it was accepted, Unix milliseconds. */
  readonly bornAt: number;
}

/** What has to be known of a message to find it, without its payload. */
export interface WaitingEntry {
  readonly clientId: string;
  readonly direct: boolean;
  /** The age of the service when it was kept (age.ts), in milliseconds. */
  readonly keptAtMs: number;
}

export const sessionCodec: Codec<StoredSession> = {
  encode: (session) => Buffer.from(JSON.stringify(session)),
  decode: (bytes) => {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"));
    const subscriptions = isRecord(value) ? value["subscriptions"] : undefined;
    if (!isRecord(subscriptions)) throw damaged("a session");
    const entries = Object.entries(subscriptions).map(([filter, qos]) => {
      if (qos !== 0 && qos !== 1 && qos !== 2) throw damaged("a session");
      return [filter, qos] as const;
    });
    return { subscriptions: Object.fromEntries(entries) };
  },
};

/** Two bytes of header length, the header in JSON, the payload as it came. */
export const messageCodec: Codec<StoredMessage> = {
  encode: ({ clientId, topic, payload, direct, bornAt }) => {
    const header = Buffer.from(JSON.stringify([clientId, topic, direct, bornAt]));
    const bytes = Buffer.allocUnsafe(2 + header.length + payload.length);
    bytes.writeUInt16BE(header.length, 0);
    header.copy(bytes, 2);
    bytes.set(payload, 2 + header.length);
    return bytes;
  },
  decode: (given) => {
    const bytes = Buffer.from(given.buffer, given.byteOffset, given.byteLength);
    const end = 2 + bytes.readUInt16BE(0);
    const header: unknown = JSON.parse(bytes.toString("utf8", 2, end));
    const [clientId, topic, direct, bornAt] = Array.isArray(header) ? (header as unknown[]) : [];
    if (
      typeof clientId !== "string" ||
      typeof topic !== "string" ||
      typeof direct !== "boolean" ||
      typeof bornAt !== "number"
    ) {
      throw damaged("a message");
    }
    return { clientId, topic, direct, bornAt, payload: bytes.subarray(end) };
  },
};

export const waitingCodec: Codec<WaitingEntry> = {
  encode: ({ clientId, direct, keptAtMs }) =>
    Buffer.from(JSON.stringify([clientId, direct ? 1 : 0, keptAtMs])),
  decode: (bytes) => {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"));
    const [clientId, direct, keptAtMs] = Array.isArray(value) ? (value as unknown[]) : [];
    if (typeof clientId !== "string" || typeof keptAtMs !== "number") {
      throw damaged("what waits for a client");
    }
    return { clientId, direct: direct === 1, keptAtMs };
  },
};

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function damaged(what: string): HoldfastError {
  return new HoldfastError("store_damaged", `A record that should hold ${what} holds no such.`);
}
