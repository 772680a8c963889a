import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Random } from "../core/random.ts";

/** What opening the database may have to write: a manifest and the start of a log. */
const PROBE_BYTES = 256 * 1024;

/** Writes and syncs a file, and takes it away again. Throws while the disk does not take writes. */
export async function probeDisk(dir: string, random: Random): Promise<void> {
  const path = join(dir, "probe.tmp");
  try {
    const file = await open(path, "w", 0o600);
    try {
      await file.writeFile(random.bytes(PROBE_BYTES));
      await file.sync();
    } finally {
      await file.close();
    }
  } finally {
    await rm(path, { force: true });
  }
}
