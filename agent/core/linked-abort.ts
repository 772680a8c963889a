/** Made once: without a reason of its own each abort would make an error with a stack. */
const OVER = "the work is over";

/**
 * A signal for one piece of work that aborts with the first of its sources, and that lets go of
 * them when the work is over. `AbortSignal.any` does not: as soon as somebody listens to its result,
 * the result lives as long as the longest-living source, so a command that listens to the life of
 * its plugin would stay in memory for that whole life (measured: 2 KB a command).
 */
export class LinkedAbort {
  readonly #controller = new AbortController();
  readonly #over = new AbortController();
  readonly #unlink: (() => void)[] = [];

  constructor(...sources: readonly AbortSignal[]) {
    for (const source of sources) {
      const abort = (): void => this.abort(source.reason);
      if (source.aborted) abort();
      else {
        source.addEventListener("abort", abort, { once: true });
        this.#unlink.push(() => source.removeEventListener("abort", abort));
      }
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Aborts when the work is over, aborted or not: for the timers that belong to it. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** Resolves when the signal aborts, and never if the work ends before. */
  get aborted(): Promise<undefined> {
    const { signal } = this;
    if (signal.aborted) return Promise.resolve(undefined);
    return new Promise((resolve) =>
      signal.addEventListener("abort", () => resolve(undefined), { once: true }),
    );
  }

  abort(reason?: unknown): void {
    this.release();
    this.#controller.abort(reason ?? OVER);
  }

  /** The work is over: the sources no longer know of it. */
  release(): void {
    for (const unlink of this.#unlink.splice(0)) unlink();
    this.#over.abort(OVER);
  }
}
