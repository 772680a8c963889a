/**
 * I3 as bookkeeping: which messages may come again, and how many of them for each thing that
 * happened. A message that comes again without a reason of its own is one too many, however few
 * came again before.
 */
import { assert } from "../../agent/core/assert.ts";

interface Event {
  readonly what: string;
  left: number;
}

export class Repeats {
  /** How many came again. */
  seen = 0;
  readonly #reasons = new Map<string, Event>();

  /** Each of these may come again once, `most` of them in all. */
  happened(what: string, texts: Iterable<string>, most: number): void {
    const event = { what, left: most };
    for (const text of texts) this.#reasons.set(text, event);
  }

  came(text: string): void {
    this.seen++;
    const event = this.#reasons.get(text);
    assert(event !== undefined, `${text} came again, and nothing happened to it`);
    assert(event.left-- > 0, `${text} came again, one more than ${event.what} explains`);
    this.#reasons.delete(text);
  }
}
