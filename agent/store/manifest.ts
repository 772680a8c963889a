import { logRecords } from "./level-log.ts";

/**
 * Reads a MANIFEST of LevelDB as far as needed to say which table files belong to the database.
 * LevelDB takes a manifest that was cut for an older one and gives file numbers a second time: it
 * would write over tables that are there, and with them over a copy made of hard links.
 * A manifest is a log; a record of it is a list of tagged fields.
 */

export interface ManifestFacts {
  /** Numbers of the table files that belong to the database. */
  readonly live: Set<number>;
  /** What is in no table yet is in the log with this number and in later ones; 0: not told. */
  firstLog: number;
}

/** Throws for what LevelDB would not read either. */
export function readManifest(manifest: Uint8Array): Readonly<ManifestFacts> {
  const facts: ManifestFacts = { live: new Set(), firstLog: 0 };
  for (const record of logRecords(Buffer.from(manifest))) applyEdit(record, facts);
  return facts;
}

function applyEdit(record: Buffer, facts: ManifestFacts): void {
  const { live } = facts;
  const fields = new Fields(record);
  while (!fields.atEnd) {
    const tag = fields.number();
    if (tag === 1) fields.skipBytes();
    else if (tag === 2) facts.firstLog = fields.number();
    else if (tag === 3 || tag === 4 || tag === 9) fields.number();
    else if (tag === 5) {
      fields.number();
      fields.skipBytes();
    } else if (tag === 6) {
      fields.number();
      live.delete(fields.number());
    } else if (tag === 7) {
      fields.number();
      live.add(fields.number());
      fields.number();
      fields.skipBytes();
      fields.skipBytes();
    } else throw new RangeError("not a manifest");
  }
}

class Fields {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  /** Seven bits a byte, the least first. */
  number(): number {
    let value = 0;
    for (let factor = 1; factor <= 2 ** 49; factor *= 128) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw new RangeError("not a manifest");
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    // Sequence numbers have up to 56 bits, and nobody here asks for their value.
    while ((this.#bytes[this.#at++] ?? 0) >= 128);
    return value;
  }

  skipBytes(): void {
    const length = this.number();
    this.#at += length;
    if (this.#at > this.#bytes.length) throw new RangeError("not a manifest");
  }
}
