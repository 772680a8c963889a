/**
 * Acknowledgements leave in the order in which their packets came [MQTT-4.6.0-2], although some
 * wait for the disk and some do not.
 */
export interface Slot {
  bytes: Buffer | undefined;
  /** Called once the bytes were written. */
  readonly sent: (() => void) | undefined;
}

export class Replies {
  readonly #write: (bytes: Buffer) => void;
  #slots: Slot[] = [];
  #head = 0;

  constructor(write: (bytes: Buffer) => void) {
    this.#write = write;
  }

  /** Replies that wait for themselves or for an earlier one. */
  get waiting(): number {
    return this.#slots.length - this.#head;
  }

  reserve(sent?: () => void): Slot {
    const slot: Slot = { bytes: undefined, sent };
    this.#slots.push(slot);
    return slot;
  }

  fill(slot: Slot, bytes: Buffer): void {
    slot.bytes = bytes;
    for (;;) {
      const next = this.#slots[this.#head];
      if (!next?.bytes) break;
      this.#head++;
      this.#write(next.bytes);
      next.sent?.();
    }
    if (this.#head === this.#slots.length) {
      this.#slots = [];
      this.#head = 0;
    } else if (this.#head > 1_024) {
      this.#slots = this.#slots.slice(this.#head);
      this.#head = 0;
    }
  }
}
