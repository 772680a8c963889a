/** The load of each job, the same for every contender that has its callers inside. */
import { setTimeout as pause } from "node:timers/promises";
import { type PayloadKind, Payloads } from "./payloads.ts";

export interface Load {
  readonly count: number;
  readonly payloads: PayloadKind;
}

/** `callers` that each wait for their message's acceptance before the next; gives milliseconds. */
export async function acceptAll(
  { count, payloads, callers }: Load & { readonly callers: number },
  accept: (payload: Uint8Array) => Promise<unknown>,
): Promise<number> {
  const source = new Payloads(payloads);
  let next = 0;
  const start = performance.now();
  await Promise.all(
    Array.from({ length: Math.min(callers, count) }, async () => {
      while (next < count) await accept(source.make(next++));
    }),
  );
  return performance.now() - start;
}

/** `perSecond` messages a second, one at a time as a timer of a millisecond allows. */
export async function acceptSteadily(
  { count, payloads, perSecond }: Load & { readonly perSecond: number },
  accept: (payload: Uint8Array) => Promise<unknown>,
): Promise<void> {
  const source = new Payloads(payloads);
  const start = performance.now();
  const waiting: Promise<unknown>[] = [];
  for (let next = 0; next < count; ) {
    const due = Math.min(count, Math.floor(((performance.now() - start) * perSecond) / 1000) + 1);
    while (next < due) waiting.push(accept(source.make(next++)));
    await pause(1);
  }
  await Promise.all(waiting);
}
