import { open, rm, stat } from "node:fs/promises";
import type { Random } from "../core/random.ts";

/**
 * A file of random bytes that is deleted when the disk is full. LevelDB needs room to open, and even
 * to delete; what this file held is that room. Random, because a file system may store zeros or
 * repeated bytes as nothing at all.
 */
export class Ballast {
  readonly bytes: number;
  readonly #path: string;
  readonly #random: Random;

  constructor(path: string, bytes: number, random: Random) {
    this.#path = path;
    this.bytes = bytes;
    this.#random = random;
  }

  async present(): Promise<boolean> {
    const size = await stat(this.#path)
      .then((info) => info.size)
      .catch(() => 0);
    return this.bytes === 0 || size === this.bytes;
  }

  /** Makes it where it is not there whole. Throws when there is no room; then nothing is left. */
  async make(): Promise<void> {
    if (await this.present()) return;
    try {
      const file = await open(this.#path, "w", 0o600);
      try {
        await file.writeFile(this.#random.bytes(this.bytes));
        await file.sync();
      } finally {
        await file.close();
      }
    } catch (error) {
      await this.release();
      throw error;
    }
  }

  /** Gives its room to others. */
  async release(): Promise<void> {
    await rm(this.#path, { force: true }).catch(() => undefined);
  }
}
