import { describe, expect, test } from "vitest";
import { persistDelayMs, RecentLatency } from "../../../agent/outbox/latency.ts";

describe("how long an acceptance waits for the service", () => {
  test.each([
    { configured: 50, online: false, median: 1, delay: 0, why: "nobody can acknowledge" },
    { configured: 50, online: false, median: undefined, delay: 0, why: "nobody can acknowledge" },
    { configured: 0, online: true, median: 1, delay: 0, why: "disk first was asked for" },
    { configured: 50, online: true, median: undefined, delay: 50, why: "nothing known yet" },
    { configured: 50, online: true, median: 1, delay: 10, why: "timers are not finer" },
    { configured: 50, online: true, median: 5, delay: 10, why: "twice the usual" },
    { configured: 50, online: true, median: 20, delay: 40, why: "twice the usual" },
    { configured: 50, online: true, median: 25, delay: 50, why: "twice the usual" },
    { configured: 50, online: true, median: 40, delay: 50, why: "never over the bound" },
    { configured: 50, online: true, median: 50, delay: 50, why: "just in time" },
    { configured: 50, online: true, median: 51, delay: 0, why: "it would come too late" },
    { configured: 4, online: true, median: 1, delay: 4, why: "never over the bound" },
  ])("$delay ms of $configured: $why", ({ configured, online, median, delay }) => {
    expect(persistDelayMs(configured, online, median)).toBe(delay);
  });

  test("the usual is the median of the last 31", () => {
    const latency = new RecentLatency();
    expect(latency.medianMs()).toBeUndefined();
    for (const ms of [3, 1, 9_000]) latency.add(ms);
    expect(latency.medianMs()).toBe(3);
    for (let i = 0; i < 31; i++) latency.add(100);
    expect(latency.medianMs()).toBe(100);
    for (let i = 0; i < 16; i++) latency.add(7);
    expect(latency.medianMs()).toBe(7);
  });
});
