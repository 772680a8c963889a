interface Run {
  first: number;
  last: number;
}

/** A set of whole numbers that mostly follow each other: two numbers for each run of them. */
export class NumberRuns {
  /** In order, with a gap between two. */
  readonly #runs: Run[] = [];

  get highest(): number | undefined {
    return this.#runs.at(-1)?.last;
  }

  has(number: number): boolean {
    return this.lastOfRun(number) !== undefined;
  }

  /** The last number of the run that it is in; undefined: it is not in the set. */
  lastOfRun(number: number): number | undefined {
    const run = this.#runs[this.#behind(number) - 1];
    return run !== undefined && number <= run.last ? run.last : undefined;
  }

  add(number: number): void {
    if (this.has(number)) return;
    const at = this.#behind(number);
    const before = this.#runs[at - 1];
    const after = this.#runs[at];
    const joinsBefore = before?.last === number - 1;
    const joinsAfter = after?.first === number + 1;
    if (before && after && joinsBefore && joinsAfter) {
      before.last = after.last;
      this.#runs.splice(at, 1);
    } else if (before && joinsBefore) before.last = number;
    else if (after && joinsAfter) after.first = number;
    else this.#runs.splice(at, 0, { first: number, last: number });
  }

  /** Only for the first of all. */
  deleteFirst(number: number): void {
    const run = this.#runs[0];
    if (run?.first !== number) return;
    if (run.last === number) this.#runs.shift();
    else run.first++;
  }

  /** The place of the first run that begins behind the number. */
  #behind(number: number): number {
    let from = 0;
    let to = this.#runs.length;
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#runs[middle] as Run).first <= number) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}
