import { HoldfastError } from "../core/errors.ts";
import { sealOne, unsealOne } from "./sealed.ts";

/**
 * How values look on disk. Each one begins with the number of its format, so that a database may
 * hold two of them. A release reads the newest format and the one before it, and writes the one
 * before it until it is told otherwise: an update can then be taken back, because the older release
 * reads all that the newer one wrote. Only when writing is switched does `store.json` get the higher
 * number, before the first value; an older release then refuses the folder and touches nothing.
 */
export interface Format {
  /** 1 to 255: the first byte of each value. */
  readonly number: number;
  seal(key: string, content: Uint8Array): Uint8Array;
  /** The content; throws `store_damaged` when the seal is broken. */
  unseal(key: string, sealed: Uint8Array): Uint8Array;
}

/** What one release knows. There is no format before the first, so this one writes what it reads. */
export const ownFormats: readonly Format[] = [{ number: 1, seal: sealOne, unseal: unsealOne }];

export class Formats {
  readonly #known: ReadonlyMap<number, Format>;
  readonly #write: Format;
  /** The newest that is read; a folder of a newer one is refused. */
  readonly newest: number;

  /** `write` is the number of the format of new values; default the one before the newest. */
  constructor(known: readonly Format[] = ownFormats, write?: number) {
    this.#known = new Map(known.map((format) => [format.number, format]));
    this.newest = Math.max(...this.#known.keys());
    const chosen = this.#known.get(write ?? this.newest - 1) ?? this.#known.get(this.newest);
    if (!chosen) throw new HoldfastError("store_newer_format", "No format is known.");
    this.#write = chosen;
  }

  get written(): number {
    return this.#write.number;
  }

  seal(key: string, content: Uint8Array): Uint8Array {
    return this.#write.seal(key, content);
  }

  /** Throws `store_damaged` when the seal is broken or of no format that is known. */
  unseal(key: string, sealed: Uint8Array): Uint8Array {
    const format = this.#known.get(sealed[0] ?? 0);
    if (format) return format.unseal(key, sealed);
    throw new HoldfastError("store_damaged", `The record ${key} has no known format.`, {
      details: { key },
    });
  }
}
