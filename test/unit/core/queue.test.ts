import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AssertionFailure } from "../../../agent/core/assert.ts";
import { BoundedQueue } from "../../../agent/core/bounded-queue.ts";
import { Wakeup } from "../../../agent/core/wakeup.ts";

const never = new AbortController().signal;

/** Whether it has been resolved by the time all that is due has run. */
async function isDone(promise: Promise<unknown>): Promise<boolean> {
  const turn = new Promise((resolve) => setImmediate(() => resolve("later")));
  return (await Promise.race([promise.then(() => "done"), turn])) === "done";
}

describe("bounded queue", () => {
  test("against a plain array with a bound", () => {
    const actions = fc.array(fc.constantFrom("push", "push", "poll", "close" as const), {
      maxLength: 60,
    });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), actions, (capacity, script) => {
        const queue = new BoundedQueue<number>(capacity);
        const model: number[] = [];
        let closed = false;
        script.forEach((action, i) => {
          if (action === "push") {
            const fits = !closed && model.length < capacity;
            expect(queue.push(i)).toBe(fits);
            if (fits) model.push(i);
          } else if (action === "poll") expect(queue.poll()).toBe(model.shift());
          else {
            queue.close();
            closed = true;
          }
          expect(queue.length).toBe(model.length);
        });
      }),
    );
  });

  test("keeps its order and its bound over many times its capacity", () => {
    const queue = new BoundedQueue<number>(3_000);
    let next = 0;
    let seen = 0;
    for (let round = 0; round < 20; round++) {
      while (queue.push(next)) next++;
      expect(queue.length).toBe(queue.capacity);
      for (let i = 0; i < 2_500; i++) expect(queue.poll()).toBe(seen++);
    }
  });

  test("readers that wait get each item once", async () => {
    const queue = new BoundedQueue<number>(10);
    const readers = Array.from({ length: 4 }, () => queue.shift(never));
    for (let i = 0; i < 4; i++) expect(queue.push(i)).toBe(true);
    expect((await Promise.all(readers)).sort()).toEqual([0, 1, 2, 3]);
  });

  test("after close the rest is read, then undefined; waiting readers hear of it", async () => {
    const queue = new BoundedQueue<string>(2);
    queue.push("last");
    queue.close();
    expect(queue.push("more")).toBe(false);
    expect(await queue.shift(never)).toBe("last");
    expect(await queue.shift(never)).toBeUndefined();

    const empty = new BoundedQueue<string>(2);
    const waiting = empty.shift(never);
    empty.close();
    expect(await waiting).toBeUndefined();
  });

  test("an aborted reader takes nothing with it", async () => {
    const queue = new BoundedQueue<string>(2);
    const reader = new AbortController();
    const waiting = queue.shift(reader.signal);
    reader.abort();
    expect(await waiting).toBeUndefined();
    queue.push("kept");
    expect(await queue.shift(reader.signal)).toBeUndefined();
    expect(await queue.shift(never)).toBe("kept");
  });

  test("a queue without room is a broken assumption", () => {
    expect(() => new BoundedQueue(0)).toThrow(AssertionFailure);
  });
});

describe("wakeup", () => {
  test("a notify before the wait is remembered, but only one", async () => {
    const wakeup = new Wakeup();
    wakeup.notify();
    wakeup.notify();
    expect(await isDone(wakeup.wait(never))).toBe(true);
    const second = wakeup.wait(never);
    expect(await isDone(second)).toBe(false);
    wakeup.notify();
    expect(await isDone(second)).toBe(true);
  });

  test("a notify that woke a waiter is used up", async () => {
    const wakeup = new Wakeup();
    const first = wakeup.wait(never);
    wakeup.notify();
    await first;
    expect(await isDone(wakeup.wait(never))).toBe(false);
  });

  test("an abort ends the wait and leaves the next one in order", async () => {
    const wakeup = new Wakeup();
    const given = new AbortController();
    const waiting = wakeup.wait(given.signal);
    given.abort();
    expect(await isDone(waiting)).toBe(true);
    expect(await isDone(wakeup.wait(given.signal))).toBe(true);
    const next = wakeup.wait(never);
    expect(await isDone(next)).toBe(false);
    wakeup.notify();
    expect(await isDone(next)).toBe(true);
  });
});
