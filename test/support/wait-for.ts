/** Waiting for something that happens in real time: a process, a socket, a disk. */
import { setTimeout as pause } from "node:timers/promises";

export interface WaitOptions {
  /** What is waited for, as the message says it when it never comes. */
  readonly what?: string;
  /** Milliseconds after which the test is declared hung. A guard, not an expectation. */
  readonly guardMs?: number;
}

const POLL_MS = 5;

/**
 * Resolves with the first value of `probe` that is neither undefined, null nor false. A probe that
 * throws is asked again; its last error is the cause when the guard strikes.
 */
export async function waitFor<T>(
  probe: () => T | Promise<T>,
  options: WaitOptions = {},
): Promise<Exclude<T, undefined | null | false>> {
  const { what = "the condition", guardMs = 30_000 } = options;
  const endMs = performance.now() + guardMs;
  let lastError: unknown;
  do {
    try {
      const value = await probe();
      if (value !== undefined && value !== null && value !== false) {
        return value as Exclude<T, undefined | null | false>;
      }
      lastError = undefined;
    } catch (error) {
      lastError = error;
    }
    await pause(POLL_MS);
  } while (performance.now() < endMs);
  throw new Error(`Waited ${guardMs} ms in vain for ${what}.`, { cause: lastError });
}
