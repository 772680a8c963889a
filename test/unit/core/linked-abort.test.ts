/** Signals that are tied together for one piece of work. */
import { getEventListeners } from "node:events";
import { expect, test } from "vitest";
import { LinkedAbort } from "../../../agent/core/linked-abort.ts";

test("aborts with the first of its sources, and with its reason", async () => {
  const a = new AbortController();
  const b = new AbortController();
  const linked = new LinkedAbort(a.signal, b.signal);
  expect(linked.signal.aborted).toBe(false);
  b.abort("why");
  a.abort("too late");
  expect(linked.signal.reason).toBe("why");
  expect(await linked.aborted).toBeUndefined();
  expect(linked.over.aborted).toBe(true);
  expect(new LinkedAbort(a.signal).signal.reason).toBe("too late");
});

test("leaves nothing on its sources when the work is over", () => {
  const life = new AbortController();
  for (let i = 0; i < 100; i++) {
    const linked = new LinkedAbort(life.signal);
    void linked.aborted;
    if (i % 2 === 0) linked.abort();
    else linked.release();
    expect(linked.over.aborted).toBe(true);
  }
  expect(getEventListeners(life.signal, "abort")).toEqual([]);
  const released = new LinkedAbort(life.signal);
  released.release();
  life.abort();
  expect(released.signal.aborted).toBe(false);
});
