import { LinkedAbort } from "./linked-abort.ts";

/** Time comes in as an object, so that a day of outage is a test of a second. */
export interface Clock {
  /** Unix time in milliseconds; may jump at any moment. */
  wallMs(): number;
  /**
   * Milliseconds since an arbitrary point, never going back. The system's clock counts from the
   * boot, so that two processes of one boot may compare their values; a suspend may not count.
   */
  monotonicMs(): number;
  /** True once a source has vouched for the wall time. */
  trusted(): boolean;
  /**
   * Resolves after `ms` of monotonic time or as soon as `signal` aborts, whichever is first. It
   * never rejects: a loop tests `signal.aborted` after it. Any length is fine, infinity included.
   */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** Runs `action` with a signal that aborts after `ms` or with `signal`; says whether time ran out. */
export async function withDeadline<T>(
  clock: Clock,
  ms: number,
  signal: AbortSignal,
  action: (signal: AbortSignal) => Promise<T>,
): Promise<{ readonly timedOut: false; readonly value: T } | { readonly timedOut: true }> {
  const work = new LinkedAbort(signal);
  const expiry = clock.sleep(ms, work.over).then(() => {
    if (work.over.aborted) return new Promise<never>(() => undefined);
    work.abort();
    return { timedOut: true } as const;
  });
  try {
    const done = action(work.signal).then((value) => ({ timedOut: false, value }) as const);
    done.catch(() => undefined); // Lost when the deadline wins; the caller was told so.
    return await Promise.race([done, expiry]);
  } finally {
    work.release();
  }
}

/** The same time with another's opinion of whether the wall time can be believed. */
export function withTrust(clock: Clock, trusted: () => boolean): Clock {
  return {
    wallMs: () => clock.wallMs(),
    monotonicMs: () => clock.monotonicMs(),
    sleep: (ms, signal) => clock.sleep(ms, signal),
    trusted,
  };
}
