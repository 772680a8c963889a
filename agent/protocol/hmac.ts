import { createHmac, timingSafeEqual } from "node:crypto";

/** Base64(HMAC-SHA1(key, message)) over UTF-8 bytes: the one primitive of both LMQ signatures. */
export function hmacSha1Base64(key: string, message: string): string {
  return createHmac("sha1", Buffer.from(key, "utf8")).update(message, "utf8").digest("base64");
}

/** Equality whose time tells nothing about where two texts differ, only whether they are as long. */
export function equalInConstantTime(expected: string, given: string): boolean {
  const a = Buffer.from(expected, "utf8");
  const b = Buffer.from(given, "utf8");
  return a.length === b.length && timingSafeEqual(a, b);
}
