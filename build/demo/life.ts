/**
 * The span in which the demo runs: ended by Ctrl-C, by its own end, or by the failure of a program
 * that it started. Every wait of the demo ends with it.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { Program } from "./programs.ts";

/** A step that did not work; `program` is the one to read the log of. */
export class DemoFailure extends Error {
  readonly program: Program | undefined;

  constructor(message: string, program?: Program, cause?: unknown) {
    super(message, { cause });
    this.program = program;
  }
}

/** Someone wants it to end. */
export class Interrupted extends Error {}

const POLL_MS = 50;

export class Life {
  readonly #controller = new AbortController();

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The first reason stands. */
  end(reason: Error): void {
    this.#controller.abort(reason);
  }

  /** Why it ended, which explains an error better than the error that came of it. */
  reasonFor(error: unknown): unknown {
    return this.signal.aborted ? this.signal.reason : error;
  }

  /** Rejects with the reason when the life ends. */
  async sleep(ms: number): Promise<void> {
    try {
      await pause(ms, undefined, { signal: this.signal });
    } catch (error) {
      throw this.reasonFor(error);
    }
  }

  /**
   * The first value of `probe` that is not undefined; it is asked again and again, also after an
   * error. Throws a `DemoFailure` after `limitMs`.
   */
  async until<T>(
    probe: () => Promise<T | undefined> | T | undefined,
    wait: { readonly what: string; readonly limitMs: number; readonly program?: Program },
  ): Promise<T> {
    const endMs = performance.now() + wait.limitMs;
    let cause: unknown;
    while (performance.now() < endMs) {
      this.signal.throwIfAborted();
      try {
        const value = await probe();
        if (value !== undefined) return value;
      } catch (error) {
        cause = error;
      }
      await this.sleep(POLL_MS);
    }
    const seconds = Math.round(wait.limitMs / 1000);
    throw new DemoFailure(`${wait.what}: not within ${seconds} s`, wait.program, cause);
  }
}
