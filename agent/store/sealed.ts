import { crc32 } from "node:zlib";
import { HoldfastError } from "../core/errors.ts";

/**
 * The seal around every value in format 1: one format byte, a CRC-32 over key and content, the content.
 * LevelDB does not notice bit rot by itself, and the key is part of the sum so that a value which
 * turns up under another key is damage too.
 */
const FORMAT = 1;
const HEADER_BYTES = 5;

export function sealOne(key: string, content: Uint8Array): Uint8Array {
  const sealed = Buffer.allocUnsafe(HEADER_BYTES + content.length);
  sealed[0] = FORMAT;
  sealed.writeUInt32BE(checksum(key, content), 1);
  sealed.set(content, HEADER_BYTES);
  return sealed;
}

/** The content; throws `store_damaged` when the seal is broken. */
export function unsealOne(key: string, sealed: Uint8Array): Uint8Array {
  if (sealed.length < HEADER_BYTES || sealed[0] !== FORMAT) throw damaged(key);
  const content = sealed.subarray(HEADER_BYTES);
  const expected = new DataView(sealed.buffer, sealed.byteOffset).getUint32(1);
  if (checksum(key, content) !== expected) throw damaged(key);
  return content;
}

function checksum(key: string, content: Uint8Array): number {
  return crc32(content, crc32(key));
}

function damaged(key: string): HoldfastError {
  return new HoldfastError("store_damaged", `The record ${key} fails its checksum.`, {
    details: { key },
  });
}
