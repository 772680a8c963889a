import type { Codec } from "./port.ts";

/** JSON of our own making; `parse` turns what was read into the type or throws. */
export function jsonCodec<V>(parse: (value: unknown) => V): Codec<V> {
  return {
    encode: (value) => Buffer.from(JSON.stringify(value)),
    decode: (bytes) => parse(JSON.parse(Buffer.from(bytes).toString("utf8"))),
  };
}
