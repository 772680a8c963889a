/** The signature of the HTTP requests, token API and status query: lmq-protocol 4.4. */
import { equalInConstantTime, hmacSha1Base64 } from "./hmac.ts";

/**
 * The signed parameters only. A list is sorted and joined with commas; a text is taken as it is,
 * commas included, so whoever receives a list as text gives it through `splitList`.
 */
export type SignedParameters = Readonly<Record<string, string | readonly string[]>>;

/** `k=v` sorted by key in byte order, joined with `&`; raw values, without URL encoding. */
export function stringToSign(parameters: SignedParameters): string {
  const pairs = Object.entries(parameters).map(([key, value]) => [key, joined(value)] as const);
  pairs.sort(([a], [b]) => compareBytes(a, b));
  return pairs.map(([key, value]) => `${key}=${value}`).join("&");
}

/** To be sent as an ordinary parameter, URL-encoded there. */
export function makeHttpSignature(secret: string, parameters: SignedParameters): string {
  return hmacSha1Base64(secret, stringToSign(parameters));
}

export function verifyHttpSignature(options: {
  readonly secret: string;
  readonly parameters: SignedParameters;
  readonly signature: string;
}): boolean {
  const expected = makeHttpSignature(options.secret, options.parameters);
  return equalInConstantTime(expected, options.signature);
}

/** The values of a parameter that came as one text. */
export function splitList(value: string): readonly string[] {
  return value.split(",");
}

function joined(value: string | readonly string[]): string {
  return typeof value === "string" ? value : [...value].sort(compareBytes).join(",");
}

function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a, "utf8"), Buffer.from(b, "utf8"));
}
