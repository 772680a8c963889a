/**
 * A file is replaced whole or not at all, and what was replaced stays so after a power cut: the new
 * text is synced under another name, the name is moved, and the folder is synced.
 */
import { type FileHandle, open, rename } from "node:fs/promises";
import { dirname } from "node:path";

/** Where `replaceFile` prepares the text; a leftover of a crash is overwritten the next time. */
export function draftPath(path: string): string {
  return `${path}.new`;
}

/** One writer to a path at a time; readers may come at any moment. Rejects with the system's error. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const draft = draftPath(path);
  await withHandle(await open(draft, "w", 0o600), async (file) => {
    await file.writeFile(text);
    await file.sync();
  });
  await rename(draft, path);
  await syncFolder(dirname(path));
}

async function syncFolder(dir: string): Promise<void> {
  await withHandle(await open(dir, "r"), (handle) => handle.sync());
}

async function withHandle(
  handle: FileHandle,
  action: (handle: FileHandle) => Promise<void>,
): Promise<void> {
  try {
    await action(handle);
  } finally {
    await handle.close();
  }
}
