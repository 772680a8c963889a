/**
 * What the MQ side has on disk, in three tables of the service's store:
 *
 *     cloud_mq_packs      topic/first            -> messages (pack.ts)
 *     cloud_mq_groups     topic/group            -> { next, seenAt }
 *     cloud_mq_confirmed  topic/group/first      -> one bit for each message of the pack
 *
 * `first` is the number of the first message of a pack, in 15 digits: the keys of one topic are in
 * the order of its messages.
 */
import { HoldfastError } from "../../agent/core/errors.ts";
import type { Codec, Store, Table, Write } from "../../agent/store/store.ts";
import { type Pack, packCodec } from "./pack.ts";

export interface StoredGroup {
  /** Every message with a smaller number is confirmed. */
  readonly next: number;
  /** The age of the service when a consumer last asked, about. */
  readonly seenAt: number;
}

/** Records read at a time. */
const PAGE = 100;

export class MqTables {
  readonly #packs: Table<Pack>;
  readonly #groups: Table<StoredGroup>;
  readonly #confirmed: Table<Uint8Array>;

  constructor(store: Store) {
    this.#packs = store.table("cloud_mq_packs", packCodec);
    this.#groups = store.table("cloud_mq_groups", groupCodec);
    this.#confirmed = store.table("cloud_mq_confirmed", bytesCodec);
  }

  readPack(topic: string, first: number): Promise<Pack | undefined> {
    return this.#packs.get(`${topic}/${digits(first)}`);
  }

  async *packs(): AsyncIterable<{ topic: string; first: number; pack: Pack }> {
    for await (const [key, pack] of pages(this.#packs)) {
      const [topic = "", first = ""] = key.split("/");
      yield { topic, first: Number(first), pack };
    }
  }

  async *groups(): AsyncIterable<{ topic: string; group: string } & StoredGroup> {
    for await (const [key, stored] of pages(this.#groups)) {
      const [topic = "", group = ""] = key.split("/");
      yield { topic, group, ...stored };
    }
  }

  async *confirmed(): AsyncIterable<{
    topic: string;
    group: string;
    first: number;
    bits: Uint8Array;
  }> {
    for await (const [key, bits] of pages(this.#confirmed)) {
      const [topic = "", group = "", first = ""] = key.split("/");
      yield { topic, group, first: Number(first), bits };
    }
  }

  putPack(topic: string, first: number, pack: Pack): Write {
    return this.#packs.put(`${topic}/${digits(first)}`, pack);
  }

  delPack(topic: string, first: number): Write {
    return this.#packs.del(`${topic}/${digits(first)}`);
  }

  putGroup(topic: string, group: string, stored: StoredGroup): Write {
    return this.#groups.put(`${topic}/${group}`, stored);
  }

  delGroup(topic: string, group: string): Write {
    return this.#groups.del(`${topic}/${group}`);
  }

  putConfirmed(topic: string, group: string, first: number, bits: Uint8Array): Write {
    return this.#confirmed.put(`${topic}/${group}/${digits(first)}`, bits);
  }

  delConfirmed(topic: string, group: string, first: number): Write {
    return this.#confirmed.del(`${topic}/${group}/${digits(first)}`);
  }
}

const groupCodec: Codec<StoredGroup> = {
  encode: ({ next, seenAt }) => Buffer.from(JSON.stringify([next, seenAt])),
  decode: (bytes) => {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"));
    const [next, seenAt] = Array.isArray(value) ? (value as unknown[]) : [];
    if (typeof next !== "number" || typeof seenAt !== "number") {
      throw new HoldfastError("store_damaged", "A record that should hold a group holds none.");
    }
    return { next, seenAt };
  },
};

const bytesCodec: Codec<Uint8Array> = { encode: (bytes) => bytes, decode: (bytes) => bytes };

function digits(seq: number): string {
  return String(seq).padStart(15, "0");
}

/** A whole table in pages, so that no snapshot is held while its rows are worked on. */
async function* pages<V>(table: Table<V>): AsyncIterable<readonly [string, V]> {
  let gt = "";
  for (;;) {
    let count = 0;
    const damaged = (key: string): void => {
      count++;
      gt = key;
    };
    for await (const row of table.range({ gt, limit: PAGE, damaged })) {
      count++;
      gt = row[0];
      yield row;
    }
    if (count === 0) return;
  }
}
