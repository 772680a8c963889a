/**
 * A token as text: standard Base64 (lmq-protocol 4.2) of
 *
 *     1 byte    version
 *     16 bytes  random: the id of the token
 *     n bytes   JSON, deflated where it is long and that is shorter, encrypted
 *     16 bytes  tag
 *
 * AES-256-GCM under a key of its own, made of the service's key and the id, so that no number of
 * tokens can repeat a nonce. Whoever bears a token can neither read nor change it, and the tag is
 * compared in constant time.
 */
import { createCipheriv, createDecipheriv, createHmac } from "node:crypto";
import { deflateRawSync, inflateRawSync } from "node:zlib";

export interface Sealed {
  readonly id: Uint8Array;
  /** JSON that its opener checks. */
  readonly content: unknown;
}

export const TOKEN_ID_BYTES = 16;
const VERSION = 1;
const TAG_BYTES = 16;
const HEAD_BYTES = 1 + TOKEN_ID_BYTES;
/** Each token has its own key, so the nonce may always be the same. */
const NONCE = Buffer.alloc(12);
const CIPHER = "aes-256-gcm";
const PLAIN = 0;
const DEFLATED = 1;
/** Below this, in bytes, deflating costs more time than its result is worth. */
const DEFLATE_BYTES = 400;
/** What a genuine content can be at most, with 100 resources of 128 characters. */
const CONTENT_BYTES = 65_536;
/** Longest text that is looked at; three tokens and more fit the largest payload. */
const TEXT_CHARS = 20_000;

export function seal(serviceKey: Uint8Array, { id, content }: Sealed): string {
  const json = Buffer.from(JSON.stringify(content));
  const deflated = json.length < DEFLATE_BYTES ? json : deflateRawSync(json);
  const isShorter = deflated.length < json.length;
  const head = Buffer.concat([Buffer.from([VERSION]), id]);
  const cipher = createCipheriv(CIPHER, keyOf(serviceKey, id), NONCE);
  cipher.setAAD(head);
  const body = Buffer.concat([
    cipher.update(Buffer.from([isShorter ? DEFLATED : PLAIN])),
    cipher.update(isShorter ? deflated : json),
    cipher.final(),
  ]);
  return Buffer.concat([head, body, cipher.getAuthTag()]).toString("base64");
}

/** Undefined for anything that `seal` did not make with this key. */
export function unseal(serviceKey: Uint8Array, text: string): Sealed | undefined {
  if (text.length > TEXT_CHARS) return undefined;
  const bytes = Buffer.from(text, "base64");
  if (bytes.length <= HEAD_BYTES + TAG_BYTES || bytes[0] !== VERSION) return undefined;
  // One token has one text: Base64 read leniently would give it many.
  if (bytes.toString("base64") !== text) return undefined;
  const id = bytes.subarray(1, HEAD_BYTES);
  const decipher = createDecipheriv(CIPHER, keyOf(serviceKey, id), NONCE, {
    authTagLength: TAG_BYTES,
  });
  decipher.setAAD(bytes.subarray(0, HEAD_BYTES));
  decipher.setAuthTag(bytes.subarray(bytes.length - TAG_BYTES));
  try {
    const plain = Buffer.concat([
      decipher.update(bytes.subarray(HEAD_BYTES, bytes.length - TAG_BYTES)),
      decipher.final(),
    ]);
    const rest = plain.subarray(1);
    const json =
      plain[0] === DEFLATED ? inflateRawSync(rest, { maxOutputLength: CONTENT_BYTES }) : rest;
    return { id, content: JSON.parse(json.toString("utf8")) as unknown };
  } catch {
    return undefined; // The tag does not fit: forged, or another service's.
  }
}

function keyOf(serviceKey: Uint8Array, id: Uint8Array): Buffer {
  return createHmac("sha256", serviceKey).update("token").update(id).digest();
}
