import { limits } from "../core/limits.ts";

/**
 * Splits what the service sends into MQTT frames, without copying and without waiting for whole
 * packets, and says of each byte who gets it.
 *
 * To mqtt.js go CONNACK, SUBACK, UNSUBACK, PUBLISH and the acknowledgements of its own packet ids.
 * To us go PUBACKs of the forwarder's ids, PUBREL, PINGRESP and DISCONNECT: they are taken out.
 *
 * Two kinds of PUBLISH are changed on the way, and marked with their ordinal among all of them:
 * - QoS 2 is shown to mqtt.js as QoS 1. Its own QoS 2 path would hold up every packet behind the
 *   message until the message is accepted; our PUBREC leaves later, in order [MQTT-4.6.0-3].
 * - A payload over the bound is cut to nothing while it arrives, so that it costs no memory and can
 *   still be acknowledged; a broker would otherwise send it again for ever.
 *
 * What breaks the protocol ends the scan with `error`; the scanner is of no use afterwards.
 */
export interface Scanned {
  readonly pass: Buffer[];
  /** Packet ids 1 to `limits.forwarderPacketIds`. */
  readonly pubacks: number[];
  readonly pubrels: number[];
  readonly marks: PublishMark[];
  /** Reason code of a DISCONNECT of the server; 3.1.1 has none, so 0. */
  disconnect?: number;
  error?: string;
}

export interface PublishMark {
  /** Counts every PUBLISH of the connection from 1. */
  readonly ordinal: number;
  readonly qos2: boolean;
  /** Size of the payload that was cut away. */
  readonly oversizeBytes?: number;
}

const TYPE = {
  connack: 2,
  publish: 3,
  puback: 4,
  pubrel: 6,
  pingresp: 13,
  disconnect: 14,
} as const;
/** What else a server may send [MQTT-2.2.1]: PUBREC, PUBCOMP, SUBACK, UNSUBACK. */
const OTHER_TYPES: ReadonlySet<number> = new Set([5, 7, 9, 11]);
/** No frame other than a PUBLISH is longer from a sane server. */
const MAX_CONTROL_BYTES = 4_096;
/** First byte and size of the one frame that comes by the thousand. */
const PUBACK = TYPE.puback << 4;
const PUBACK_BYTES = 4;
const EMPTY = Buffer.alloc(0);

interface Frame {
  readonly first: number;
  readonly type: number;
  /** Where the frame starts, where its body starts, and how long that body is. */
  readonly at: number;
  readonly body: number;
  readonly length: number;
}

export class FrameScanner {
  readonly #maxPayloadBytes: number;
  /** The beginning of a frame that cannot be judged yet; at most a head and a topic. */
  #carry: Buffer = EMPTY;
  /** Bytes of the current frame still to come, and whether they are passed on. */
  #rest = 0;
  #dropRest = false;
  #connackSeen = false;
  #publishes = 0;

  constructor(options: { readonly maxPayloadBytes: number }) {
    this.#maxPayloadBytes = options.maxPayloadBytes;
  }

  scan(chunk: Buffer): Scanned {
    const out: Scanned = { pass: [], pubacks: [], pubrels: [], marks: [] };
    const data = this.#carry.length > 0 ? Buffer.concat([this.#carry, chunk]) : chunk;
    this.#carry = EMPTY;
    let at = 0;
    let passFrom = 0;
    const passUntil = (end: number, next: number): void => {
      if (end > passFrom) out.pass.push(data.subarray(passFrom, end));
      passFrom = next;
    };
    while (at < data.length && out.error === undefined) {
      if (this.#rest > 0) {
        const count = Math.min(this.#rest, data.length - at);
        if (this.#dropRest) passUntil(at, at + count);
        this.#rest -= count;
        at += count;
        continue;
      }
      const acknowledged = this.#connackSeen ? ourPuback(data, at) : 0;
      if (acknowledged > 0) {
        out.pubacks.push(acknowledged);
        passUntil(at, at + PUBACK_BYTES);
        at += PUBACK_BYTES;
        continue;
      }
      const frame = readHead(data, at, out);
      if (out.error !== undefined) break;
      const used = frame && this.#judge(data, frame, out);
      if (frame === undefined || used === undefined) {
        passUntil(at, data.length);
        if (out.error === undefined) this.#carry = data.subarray(at);
        return out;
      }
      if (used.replaceBy) {
        passUntil(at, used.end);
        out.pass.push(used.replaceBy);
      } else if (used.taken) passUntil(at, used.end);
      this.#rest = frame.body + frame.length - used.end;
      this.#dropRest = used.replaceBy !== undefined;
      at = used.end;
    }
    passUntil(at, at);
    return out;
  }

  /** Undefined: more bytes are needed (or the protocol is broken). */
  #judge(data: Buffer, frame: Frame, out: Scanned): Verdict | undefined {
    if (!this.#connackSeen) {
      // [MQTT-3.2.0-1]: the first packet of a server is CONNACK.
      if (frame.type !== TYPE.connack) return broken(out, "the first packet is not CONNACK");
      this.#connackSeen = true;
    }
    if (frame.type === TYPE.publish) return this.#judgePublish(data, frame, out);
    const flags = frame.type === TYPE.pubrel ? 2 : 0;
    if ((frame.first & 0x0f) !== flags) return broken(out, "reserved flags are set"); // [MQTT-2.2.2-2]
    if (frame.length > MAX_CONTROL_BYTES) return broken(out, "a control packet is far too long");
    switch (frame.type) {
      case TYPE.puback:
        return judgePuback(data, frame, out);
      case TYPE.pubrel: {
        const packetId = readPacketId(data, frame, out);
        if (packetId !== undefined) out.pubrels.push(packetId);
        return packetId === undefined ? undefined : takeWhole(frame);
      }
      case TYPE.pingresp:
        if (frame.length !== 0) return broken(out, "a PINGRESP has a body");
        return takeWhole(frame);
      case TYPE.disconnect:
        if (data.length < frame.body + frame.length) return undefined;
        out.disconnect = frame.length > 0 ? data.readUInt8(frame.body) : 0;
        return takeWhole(frame);
      default:
        if (frame.type === TYPE.connack || OTHER_TYPES.has(frame.type)) return passOn(frame);
        return broken(out, `a server never sends packets of type ${frame.type}`);
    }
  }

  #judgePublish(data: Buffer, frame: Frame, out: Scanned): Verdict | undefined {
    const qos = (frame.first >> 1) & 3;
    if (qos === 3) return broken(out, "a PUBLISH has QoS 3"); // [MQTT-3.3.1-4]
    const qos2 = qos === 2;
    const shownFirst = qos2 ? (frame.first & ~0x06) | 0x02 : frame.first;
    if (frame.length <= this.#maxPayloadBytes) {
      data[frame.at] = shownFirst;
      const ordinal = ++this.#publishes;
      if (qos2) out.marks.push({ ordinal, qos2 });
      return passOn(frame);
    }
    if (data.length < frame.body + 2) return undefined;
    const headBytes = 2 + data.readUInt16BE(frame.body) + (qos > 0 ? 2 : 0);
    if (headBytes > frame.length) return broken(out, "a topic is longer than its packet");
    const oversizeBytes = frame.length - headBytes;
    const oversize = oversizeBytes > this.#maxPayloadBytes;
    if (oversize && data.length < frame.body + headBytes) return undefined;
    const ordinal = ++this.#publishes;
    data[frame.at] = shownFirst;
    if (!oversize) {
      if (qos2) out.marks.push({ ordinal, qos2 });
      return passOn(frame);
    }
    out.marks.push({ ordinal, qos2, oversizeBytes });
    const end = frame.body + headBytes;
    const head = Buffer.from([shownFirst, ...encodeLength(headBytes)]);
    return {
      taken: true,
      end,
      replaceBy: Buffer.concat([head, data.subarray(frame.body, end)]),
    };
  }
}

interface Verdict {
  readonly taken: boolean;
  /** Up to here the frame is dealt with; the rest goes the same way. */
  readonly end: number;
  readonly replaceBy?: Buffer;
}

/** The head is enough: the body follows it to mqtt.js as it comes. */
function passOn(frame: Frame): Verdict {
  return { taken: false, end: frame.body };
}

function takeWhole(frame: Frame): Verdict {
  return { taken: true, end: frame.body + frame.length };
}

/** The forwarder's packet id of a whole PUBACK at `at`; 0: not one, or to be looked at closely. */
function ourPuback(data: Buffer, at: number): number {
  if (data[at] !== PUBACK || data[at + 1] !== 2 || at + PUBACK_BYTES > data.length) return 0;
  const packetId = ((data[at + 2] as number) << 8) | (data[at + 3] as number);
  return packetId <= limits.forwarderPacketIds ? packetId : 0;
}

function judgePuback(data: Buffer, frame: Frame, out: Scanned): Verdict | undefined {
  const packetId = readPacketId(data, frame, out);
  if (packetId === undefined) return undefined;
  const verdict = takeWhole(frame);
  if (packetId > limits.forwarderPacketIds) return { ...verdict, taken: false };
  out.pubacks.push(packetId);
  return verdict;
}

/** The id of a packet that has nothing else; undefined when it is not all there, or wrong. */
function readPacketId(data: Buffer, frame: Frame, out: Scanned): number | undefined {
  if (frame.length !== 2) return broken(out, "an acknowledgement has a wrong length");
  if (data.length < frame.body + 2) return undefined;
  const packetId = data.readUInt16BE(frame.body);
  return packetId === 0 ? broken(out, "a packet id is 0") : packetId; // [MQTT-2.3.1-1]
}

/** Undefined when the length is not all there yet. */
function readHead(data: Buffer, at: number, out: Scanned): Frame | undefined {
  const first = data.readUInt8(at);
  let length = 0;
  for (let i = 0; i < 4; i++) {
    if (at + 1 + i >= data.length) return undefined;
    const byte = data.readUInt8(at + 1 + i);
    length += (byte & 0x7f) << (7 * i);
    if (byte < 0x80) return { first, type: first >> 4, at, body: at + 2 + i, length };
  }
  return broken(out, "a length has more than four bytes");
}

function encodeLength(length: number): number[] {
  const bytes: number[] = [];
  let rest = length;
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return bytes;
}

function broken(out: Scanned, error: string): undefined {
  out.error = error;
  return undefined;
}
