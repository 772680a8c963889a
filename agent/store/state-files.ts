import { open, rename } from "node:fs/promises";
import { join } from "node:path";

/** Writes a small file so that after a power cut it is there whole or not at all. */
export async function writeDurably(dir: string, name: string, text: string): Promise<void> {
  const temporary = join(dir, `${name}.new`);
  const file = await open(temporary, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, join(dir, name));
  await syncFolder(dir);
}

/** Makes what was created, renamed or removed in a folder survive a power cut. */
export async function syncFolder(dir: string): Promise<void> {
  const folder = await open(dir, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** The code of the system's error that is behind this one, such as ENOSPC; undefined: none. */
export function systemCode(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const code = "code" in at ? String(at.code) : "";
    if (/^E[A-Z0-9]+$/.test(code)) return code;
    // LevelDB gives the system's words only.
    if (/no space left|disk quota exceeded/i.test(at.message)) return "ENOSPC";
    if (/read-only file system/i.test(at.message)) return "EROFS";
    if (/input\/output error/i.test(at.message)) return "EIO";
  }
  return undefined;
}
