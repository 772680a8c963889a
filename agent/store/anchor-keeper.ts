import { describeError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { Anchor, type AnchorValue } from "./anchor.ts";

/** The anchor may be behind the database by so many records. */
const LATE_RECORDS = 1_024;

/** Keeps the anchor near to what was committed. Where it cannot be written it is merely behind. */
export class AnchorKeeper {
  readonly #anchor: Anchor;
  readonly #log: Logger;
  #committed = 0;
  #written = 0;
  #writing: Promise<void> | undefined;
  #failed = false;

  constructor(path: string, log: Logger) {
    this.#anchor = new Anchor(path);
    this.#log = log;
  }

  /** Of this store; undefined when there is none or it is another one's. */
  async read(storeId: string): Promise<AnchorValue | undefined> {
    const value = await this.#anchor.read();
    return value?.storeId === storeId ? value : undefined;
  }

  /** Records up to this number are synced. */
  note(committed: number): void {
    this.#committed = committed;
  }

  get late(): boolean {
    return this.#committed - this.#written >= LATE_RECORDS;
  }

  /** Never throws. `inventory`: the database is closed and looks like this. */
  async keep(storeId: string, inventory?: number): Promise<void> {
    await this.#writing;
    if (this.#committed === this.#written && inventory === undefined && !this.#failed) return;
    this.#writing = this.#write({ storeId, number: this.#committed, inventory });
    await this.#writing;
  }

  async idle(): Promise<void> {
    await this.#writing;
  }

  async #write(value: AnchorValue): Promise<void> {
    try {
      await this.#anchor.write(value);
      this.#failed = false;
    } catch (error) {
      if (!this.#failed) this.#log.warn("anchor not written", { error: describeError(error) });
      this.#failed = true;
    }
    // Also where it failed: tried again with the next records, not with every commit.
    this.#written = value.number;
  }
}
