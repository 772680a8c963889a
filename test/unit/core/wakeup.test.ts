import { expect, test } from "vitest";
import { Wakeup } from "../../../agent/core/wakeup.ts";
import { FakeClock } from "../../support/fake-clock.ts";

const never = new AbortController().signal;

/** A wait, and whether it is over. */
function started(wait: Promise<void>): { over: boolean } {
  const state = { over: false };
  void wait.then(() => {
    state.over = true;
  });
  return state;
}

test("a wait ends with its time, and not before", async () => {
  const clock = new FakeClock();
  const wait = started(new Wakeup().waitAtMost(100, clock, never));
  await clock.advance(99);
  expect(wait.over).toBe(false);
  await clock.advance(1);
  expect(wait.over).toBe(true);
});

test("a notify ends it earlier, and its timer wakes nobody else", async () => {
  const clock = new FakeClock();
  const wakeup = new Wakeup();
  const first = started(wakeup.waitAtMost(100, clock, never));
  wakeup.notify();
  await clock.advance(0);
  expect(first.over).toBe(true);
  const second = started(wakeup.wait(never));
  await clock.advance(1_000);
  expect(second.over).toBe(false);
});

test("a time that is up is not remembered for the next wait", async () => {
  const clock = new FakeClock();
  const wakeup = new Wakeup();
  await Promise.all([wakeup.waitAtMost(10, clock, never), clock.advance(10)]);
  const next = started(wakeup.wait(never));
  await clock.advance(100);
  expect(next.over).toBe(false);
});

test("ends at once for what came before, and when the signal aborts", async () => {
  const clock = new FakeClock();
  const wakeup = new Wakeup();
  wakeup.notify();
  await wakeup.waitAtMost(1_000, clock, never);
  const stop = new AbortController();
  const wait = started(wakeup.waitAtMost(Number.POSITIVE_INFINITY, clock, stop.signal));
  await clock.advance(1_000_000);
  expect(wait.over).toBe(false);
  stop.abort();
  await clock.advance(0);
  expect(wait.over).toBe(true);
});
