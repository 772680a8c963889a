import { rm } from "node:fs/promises";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";

/** What the store needs of a database; LevelDB behind this one file, a simulated disk in tests. */
export interface KeyValue {
  get(key: string): Promise<Uint8Array | undefined>;
  range(range: {
    readonly gt: string;
    readonly lte: string;
    readonly limit: number;
    readonly reverse: boolean;
  }): AsyncIterable<readonly [string, Uint8Array]>;
  batch(
    operations: readonly { readonly key: string; readonly value: Uint8Array | undefined }[],
    options: { readonly sync: boolean },
  ): Promise<void>;
  compact(from: string, to: string): Promise<void>;
  close(): Promise<void>;
}

export type KeyValueOpener = (
  directory: string,
  options: { readonly createIfMissing: boolean },
) => Promise<KeyValue>;

/** Opens the LevelDB in `directory`. Rejects with the library's error; its cause has the code. */
export const openLevel: KeyValueOpener = async (directory, { createIfMissing }) => {
  const db = new ClassicLevel<string, Uint8Array>(directory, {
    keyEncoding: "utf8",
    valueEncoding: "view",
    createIfMissing,
    errorIfExists: false,
    compression: true,
    // Half of the library's default: LevelDB keeps up to two of these in memory.
    writeBufferSize: 2 * 1024 * 1024,
    cacheSize: 2 * 1024 * 1024,
  });
  await db.open();
  return {
    get: (key) => db.get(key, { fillCache: false }),
    range: ({ gt, lte, limit, reverse }) =>
      db.iterator({ gt, lte, limit, reverse, fillCache: false, highWaterMarkBytes: 256 * 1024 }),
    batch: (operations, { sync }) =>
      db.batch(
        operations.map(({ key, value }) =>
          value === undefined ? { type: "del", key } : { type: "put", key, value },
        ),
        { sync },
      ),
    compact: (from, to) => db.compactRange(from, to),
    close: () => db.close(),
  };
};

/** Rebuilds what can be read in a folder that does not open; changes and deletes files in it. */
export async function repairLevel(directory: string): Promise<void> {
  await ClassicLevel.repair(directory);
  // What it replaced; to be used on copies only, so the original is elsewhere.
  await rm(join(directory, "lost"), { recursive: true, force: true });
}
