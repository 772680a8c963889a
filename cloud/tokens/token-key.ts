/** The service's key for its tokens: 32 random bytes in `DIR/token.key`, which only its owner reads. */
import { link, open, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { HoldfastError } from "../../agent/core/errors.ts";
import type { Random } from "../../agent/core/random.ts";

const KEY_BYTES = 32;

/**
 * Reads it, or makes it where there is none; on disk before it is used. `dir` must be there.
 * Throws `secret_exposed` when others can read it, `store_damaged` when it is no such key,
 * `store_not_writable`.
 */
export async function loadTokenKey(dir: string, random: Random): Promise<Uint8Array> {
  const file = join(dir, "token.key");
  try {
    return (await readKey(file)) ?? (await makeKey(dir, file, random));
  } catch (cause) {
    if (cause instanceof HoldfastError) throw cause;
    throw new HoldfastError("store_not_writable", `Cannot read or write ${file}.`, { cause });
  }
}

async function readKey(file: string): Promise<Uint8Array | undefined> {
  let mode: number;
  try {
    mode = (await stat(file)).mode;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
  if ((mode & 0o077) !== 0) {
    throw new HoldfastError("secret_exposed", `Others can read ${file}; expected mode 0600.`);
  }
  const bytes = await readFile(file);
  if (bytes.length === KEY_BYTES) return bytes;
  throw new HoldfastError(
    "store_damaged",
    `${file} is no key of ${KEY_BYTES} bytes. Without the file a new one is made, and every token issued so far is void.`,
  );
}

/** Whole and synced, or not there at all. */
async function makeKey(dir: string, file: string, random: Random): Promise<Uint8Array> {
  const key = random.bytes(KEY_BYTES);
  const draft = `${file}.new`;
  await rm(draft, { force: true });
  const handle = await open(draft, "wx", 0o600);
  try {
    await handle.writeFile(key);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await link(draft, file);
  await rm(draft);
  const folder = await open(dir, "r");
  await folder.sync().finally(() => folder.close());
  return key;
}
