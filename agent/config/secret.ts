import { inspect } from "node:util";

const MASK = "***";

/**
 * A value that nobody prints by accident: every way to turn it into text gives the mask, and only
 * `reveal` gives the value. Two secrets compare by `reveal()`.
 */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return MASK;
  }

  toJSON(): string {
    return MASK;
  }

  [Symbol.toPrimitive](): string {
    return MASK;
  }

  [inspect.custom](): string {
    return MASK;
  }
}
