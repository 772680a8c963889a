import { describe, expect, test } from "vitest";
import { keepAlive } from "../../../agent/connection/keepalive.ts";
import type { Close } from "../../../agent/core/message.ts";
import { FakeClock } from "../../support/fake-clock.ts";

function watched(options = { keepaliveS: 90, ackTimeoutMs: 30_000 }) {
  const clock = new FakeClock();
  const startMs = clock.monotonicMs();
  const pings: number[] = [];
  const traffic = { sentAtMs: startMs, bytesIn: 0, resumedAtMs: startMs, held: false };
  const state: { close?: Close; oldest?: number; endedAtMs?: number; answer: boolean } = {
    answer: true,
  };
  const link = {
    get close() {
      return state.close;
    },
    traffic,
    ping: () => {
      pings.push(clock.monotonicMs() - startMs);
      traffic.sentAtMs = clock.monotonicMs();
      if (state.answer) traffic.bytesIn += 2;
    },
    abort: (close: Close) => {
      state.close = close;
      state.endedAtMs = clock.monotonicMs() - startMs;
    },
  };
  const stop = new AbortController();
  const oldestSentAtMs = () => state.oldest;
  const done = keepAlive(options, { link, clock, oldestSentAtMs }, stop.signal);
  return { clock, startMs, pings, traffic, state, stop, done };
}

describe("keeping a connection alive", () => {
  test("pings after three quarters of the keep-alive without a write", async () => {
    const { clock, pings, traffic, stop, done, state } = watched();
    await clock.advance(200_000);
    expect(pings).toEqual([67_500, 135_000]);
    traffic.sentAtMs = clock.monotonicMs();
    await clock.advance(67_499);
    expect(pings).toHaveLength(2);
    await clock.advance(1);
    expect(pings).toHaveLength(3);
    stop.abort();
    await done;
    expect(state.close).toBeUndefined();
    expect(clock.sleeping).toBe(0);
  });

  test("finds a dead peer within 1.25 keep-alives of silence", async () => {
    const { clock, state, done } = watched();
    state.answer = false;
    await clock.advance(200_000);
    await done;
    expect(state.close).toEqual({ reason: "keepalive" });
    expect(state.endedAtMs).toBe(90_000 * 1.25);
  });

  test("any byte after the ping counts as its answer", async () => {
    const { clock, state, traffic, stop, done } = watched();
    state.answer = false;
    for (let i = 0; i < 30; i++) {
      await clock.advance(20_000);
      traffic.bytesIn += 100;
    }
    expect(state.close).toBeUndefined();
    stop.abort();
    await done;
  });

  test("gives up when the oldest message waits too long for its PUBACK", async () => {
    const { clock, startMs, state, done } = watched();
    await clock.advance(29_000);
    state.oldest = startMs + 29_000;
    await clock.advance(29_999);
    expect(state.close).toBeUndefined();
    await clock.advance(1);
    await done;
    expect(state.close).toEqual({ reason: "ack_timeout" });
  });

  test("judges nothing while the reader is paused, and starts the waits anew after it", async () => {
    const { clock, startMs, pings, traffic, state, done } = watched();
    state.answer = false;
    state.oldest = startMs;
    traffic.held = true;
    await clock.advance(600_000);
    expect(state.close).toBeUndefined();
    expect(pings.length).toBeGreaterThan(7);
    traffic.held = false;
    traffic.resumedAtMs = clock.monotonicMs();
    await clock.advance(29_000);
    expect(state.close).toBeUndefined();
    await clock.advance(31_000);
    await done;
    expect(state.close).toEqual({ reason: "ack_timeout" });
  });

  test("a keep-alive of 0 never pings", async () => {
    const { clock, pings, stop, done } = watched({ keepaliveS: 0, ackTimeoutMs: 1_000 });
    await clock.advance(10_000_000);
    expect(pings).toEqual([]);
    stop.abort();
    await done;
  });
});
