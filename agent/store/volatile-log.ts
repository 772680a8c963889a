import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";

/**
 * A small log that survives the process, not the boot: written at once, never synced, best in a
 * folder in memory (`/run`). It holds what would be a pity, but no harm, to lose.
 *
 * Two files take turns. `begin` says that what was appended so far is about to be written
 * elsewhere; `commit` that it was, and drops it; what came in between stays. Both files carry an
 * identity, so that notes of another boot or another state folder are never taken for ours.
 */
export interface VolatileLog {
  /** What earlier processes left, pieces in the order of their writing; none is torn. */
  read(): Uint8Array;
  /** Never throws: where it cannot be written, it is as if it were lost. */
  append(bytes: Uint8Array): void;
  begin(): void;
  commit(): void;
}

export class FileVolatileLog implements VolatileLog {
  readonly #dir: string;
  readonly #name: string;
  readonly #identity: () => string;
  #header = Buffer.alloc(0);
  readonly #onError: (error: unknown) => void;
  /** The file that takes what comes, and the one that waits for `commit`. */
  #files: { current: number; other: number } | undefined;
  #turning = false;
  #failed = false;

  constructor(
    options: {
      readonly dir: string;
      /** Of its two files, before `-a` and `-b`; default `settled`. */
      readonly name?: string;
      /** Asked once, by `read`: the state folder and the boot. */
      readonly identity: () => string;
    },
    onError: (error: unknown) => void,
  ) {
    this.#dir = options.dir;
    this.#name = options.name ?? "settled";
    this.#identity = options.identity;
    this.#onError = onError;
  }

  read(): Uint8Array {
    const parts: Buffer[] = [];
    this.#header = Buffer.from(`holdfast 1 ${this.#identity()}\n`);
    this.#try(() => {
      mkdirSync(this.#dir, { recursive: true, mode: 0o750 });
      const open = (name: string): number => {
        const path = join(this.#dir, name);
        const file = openSync(path, "a+", 0o600);
        const content = readFileSync(path);
        if (content.subarray(0, this.#header.length).equals(this.#header)) {
          parts.push(content.subarray(this.#header.length));
        } else {
          this.#clear(file);
        }
        return file;
      };
      this.#files = { current: open(`${this.#name}-a`), other: open(`${this.#name}-b`) };
    });
    return Buffer.concat(parts);
  }

  append(bytes: Uint8Array): void {
    const files = this.#files;
    if (files && bytes.length > 0) this.#try(() => writeSync(files.current, bytes));
  }

  begin(): void {
    if (!this.#files || this.#turning) return; // The last turn failed: its notes are still there.
    const { current, other } = this.#files;
    this.#files = { current: other, other: current };
    this.#turning = true;
  }

  commit(): void {
    const files = this.#files;
    if (files && this.#turning) this.#try(() => this.#clear(files.other));
    this.#turning = false;
  }

  close(): void {
    const files = this.#files;
    this.#files = undefined;
    if (!files) return;
    this.#try(() => {
      closeSync(files.current);
      closeSync(files.other);
    });
  }

  #clear(file: number): void {
    ftruncateSync(file, 0);
    writeSync(file, this.#header);
  }

  #try(action: () => void): void {
    try {
      action();
    } catch (error) {
      if (!this.#failed) this.#onError(error);
      this.#failed = true;
    }
  }
}
