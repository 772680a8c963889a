/**
 * The demo's accounts: what the agent's local API answered with 200 against what a subscriber of
 * the service saw. Messages are told apart by the number that each carries, from 1. The agent's own
 * word counts for nothing here.
 */

export interface Result {
  /** Answered with 200. */
  readonly accepted: number;
  /** Of these, the ones whose first try failed. */
  readonly retried: number;
  /** Accepted and arrived. */
  readonly delivered: number;
  /** Accepted and not arrived. */
  readonly lost: number;
  /** Arrivals beyond the first of each message. */
  readonly duplicated: number;
  /** First arrivals that came after one with a higher number. */
  readonly disordered: number;
  /** Arrived without ever having been accepted. */
  readonly unasked: number;
}

export class Tally {
  readonly #accepted = new Set<number>();
  readonly #arrived = new Set<number>();
  #retried = 0;
  #duplicated = 0;
  #disordered = 0;
  #highest = 0;

  /** `tries`: how many it took until the answer was 200. */
  accept(number: number, { tries }: { readonly tries: number }): void {
    if (this.#accepted.has(number)) throw new Error(`message ${number} was counted twice`);
    this.#accepted.add(number);
    if (tries > 1) this.#retried++;
  }

  arrive(number: number): void {
    if (this.#arrived.has(number)) {
      this.#duplicated++;
      return;
    }
    this.#arrived.add(number);
    if (number < this.#highest) this.#disordered++;
    this.#highest = Math.max(this.#highest, number);
  }

  result(): Result {
    const delivered = [...this.#accepted].filter((number) => this.#arrived.has(number)).length;
    return {
      accepted: this.#accepted.size,
      retried: this.#retried,
      delivered,
      lost: this.#accepted.size - delivered,
      duplicated: this.#duplicated,
      disordered: this.#disordered,
      unasked: this.#arrived.size - delivered,
    };
  }
}
