/** MQTT packets put together by hand, for what no library would send. */

/** A string as MQTT writes it: two bytes of length, then the characters in UTF-8. */
export function text(value: string): Uint8Array {
  return field(Buffer.from(value));
}

/** The same of bytes that are no characters. */
export function field(bytes: Uint8Array): Uint8Array {
  return Uint8Array.of(bytes.length >> 8, bytes.length & 0xff, ...bytes);
}

/** A packet: its first byte, the length of the rest, and the rest. */
export function packet(first: number, ...parts: readonly (number | Uint8Array)[]): Uint8Array {
  const body = parts.flatMap((part) => (typeof part === "number" ? [part] : [...part]));
  const length: number[] = [];
  let rest = body.length;
  do {
    length.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return Uint8Array.of(first, ...length, ...body);
}
