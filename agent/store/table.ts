import { assert } from "../core/assert.ts";
import { HoldfastError } from "../core/errors.ts";
import type { Formats } from "./formats.ts";
import type { KeyValue } from "./level.ts";
import type { Codec, Table } from "./port.ts";

export interface TableSource {
  readonly formats: Formats;
  /** The database now; throws while there is none. */
  readonly database: () => KeyValue;
  /** A value was skipped because it cannot be trusted. */
  readonly onDamage: (key: string, error: unknown) => void;
}

/** One table of a database: keys with a prefix, values under a seal. */
export function makeTable<V>(name: string, codec: Codec<V>, source: TableSource): Table<V> {
  assert(/^[a-z_]{1,32}$/.test(name) && name !== "meta", "a table has a plain name");
  const prefix = `${name}/`;
  const decode = (key: string, value: Uint8Array): V =>
    codec.decode(source.formats.unseal(key, value));
  return {
    name,
    get: async (key) => {
      const value = await source.database().get(prefix + key);
      return value === undefined ? undefined : decode(prefix + key, value);
    },
    range: async function* ({ gt, lte, limit, reverse = false, damaged }) {
      const bounds = { gt: prefix + (gt ?? ""), lte: prefix + (lte ?? "\x7f"), limit, reverse };
      for await (const [key, value] of readable(source.database().range(bounds))) {
        let decoded: V;
        try {
          decoded = decode(key, value);
        } catch (error) {
          source.onDamage(key, error);
          damaged?.(key.slice(prefix.length));
          continue;
        }
        yield [key.slice(prefix.length), decoded] as const;
      }
    },
    put: (key, value) => ({ table: name, key, value: codec.encode(value) }),
    del: (key) => ({ table: name, key, value: undefined }),
    putNumbered: (make) => ({
      table: name,
      numbered: (recordNumber) => {
        const { key, value } = make(recordNumber);
        return { key, value: codec.encode(value) };
      },
    }),
  };
}

/** What goes wrong while reading, as an error of ours: the database may be closed to be reopened. */
async function* readable<T>(items: AsyncIterable<T>): AsyncIterable<T> {
  try {
    yield* items;
  } catch (cause) {
    const message = "The disk does not give back what was stored now.";
    throw new HoldfastError("store_unreadable", message, { cause });
  }
}
