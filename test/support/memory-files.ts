import type { Files } from "../../agent/config/config.ts";

/** Files in memory, private unless said otherwise; a folder is there when a file is in it. */
export class MemoryFiles implements Files {
  readonly files = new Map<string, { readonly text: string | Uint8Array; readonly mode: number }>();

  constructor(files: Readonly<Record<string, string | Uint8Array>> = {}) {
    for (const [path, text] of Object.entries(files)) this.set(path, text);
  }

  set(path: string, text: string | Uint8Array, mode = 0o600): void {
    this.files.set(path, { text, mode });
  }

  text(path: string): string | undefined {
    const text = this.files.get(path)?.text;
    return text === undefined ? undefined : Buffer.from(text as string).toString();
  }

  read(path: string): Uint8Array | undefined {
    const file = this.files.get(path);
    return file && Buffer.from(file.text as string);
  }

  list(folder: string): readonly string[] {
    const prefix = `${folder}/`;
    const inside = [...this.files.keys()].filter((path) => path.startsWith(prefix));
    return inside.map((path) => path.slice(prefix.length)).toSorted();
  }

  mode(path: string): number | undefined {
    return this.files.get(path)?.mode;
  }

  writeAtomic(path: string, text: string, mode: number): void {
    this.set(path, text, mode);
  }
}
