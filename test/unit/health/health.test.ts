/** When reports are sent, and that nothing can stop them. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { HoldfastError } from "../../../agent/core/errors.ts";
import { silentLog } from "../../../agent/core/log.ts";
import { SystemClock } from "../../../agent/core/system-clock.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import {
  Health,
  type HealthOptions,
  type HealthSources,
  newNonce,
  type SystemProbes,
  systemProbes,
} from "../../../agent/health/health.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { FakeOutgoing, never } from "./support.ts";

const sources: HealthSources = {
  agent: () => ({ version: "0.1.0", uptimeS: 1, bootId: "b", restarts: 0, lastExit: null }),
  clock: () => ({ trusted: true, source: "kernel", offsetMs: null }),
  connection: () => ({ since: 1, attempts: 1, lastError: null }),
  outbox: () => ({ lanes: {} }),
  commands: () => ({ queued: 0, running: 0, finished: 0, rejected: 0 }),
  plugins: () => [],
  credentials: () => ({ expiresAt: null }),
  alarms: () => [],
};

const probes: SystemProbes = {
  cpu: () => Promise.resolve({ loadPercent: 5, cores: 2 }),
  mem: () => Promise.resolve({ totalBytes: 2, availableBytes: 1 }),
  disk: () => Promise.resolve({ totalBytes: 2, availableBytes: 1 }),
  tempC: () => Promise.resolve(50),
};

async function started(
  options: Partial<HealthOptions> = {},
  parts: { sources?: Partial<HealthSources>; probes?: Partial<SystemProbes> } = {},
) {
  const clock = new FakeClock();
  const outgoing = new FakeOutgoing();
  const health = new Health(
    { topic: "GW_UP/health/gw-01", intervalMs: 60_000, nonce: "n", ...options },
    {
      sources: { ...sources, ...parts.sources },
      probes: { ...probes, ...parts.probes },
      outgoing,
      clock,
      log: silentLog,
    },
  );
  const abort = new AbortController();
  onTestFinished(() => abort.abort());
  await health.start(abort.signal);
  await clock.advance(0);
  return { health, clock, outgoing, abort };
}

test("a report at the start and then at every interval, exactly", async () => {
  const { clock, outgoing, health } = await started();
  expect(outgoing.messages).toMatchObject([{ topic: "GW_UP/health/gw-01", lane: "event" }]);
  await clock.advance(59_999);
  expect(outgoing.messages.length).toBe(1);
  await clock.advance(1);
  expect(outgoing.messages.length).toBe(2);
  await clock.advance(600_000);
  expect(outgoing.messages.length).toBe(12);
  expect(health.stats()).toEqual({ sent: 12, failed: 0, lastAt: clock.wallMs() });
});

test("an interval of 5 s is kept too", async () => {
  const { clock, outgoing } = await started({ intervalMs: 5_000 });
  await clock.advance(50_000);
  expect(outgoing.messages.length).toBe(11);
});

test("a wake gives a report at once, and the next interval counts from it", async () => {
  const { clock, outgoing, health } = await started();
  await clock.advance(30_000);
  health.wake("connect");
  await clock.advance(0);
  expect(outgoing.messages.length).toBe(2);
  await clock.advance(59_999);
  expect(outgoing.messages.length).toBe(2);
  await clock.advance(1);
  expect(outgoing.messages.length).toBe(3);
});

test("a flapping link gives one report in 5 s, and the last state is told", async () => {
  let attempts = 0;
  const { clock, outgoing, health } = await started(
    {},
    { sources: { connection: () => ({ since: 1, attempts, lastError: null }) } },
  );
  for (let i = 0; i < 200; i++) {
    attempts++;
    health.wake("state");
    await clock.advance(100);
  }
  expect(outgoing.messages.length).toBeLessThanOrEqual(1 + 20_000 / 5_000);
  await clock.advance(5_000);
  expect(outgoing.bodies().at(-1)).toMatchObject({ connection: { attempts: 200 } });
  const count = outgoing.messages.length;
  await clock.advance(20_000); // Nothing is owed any more.
  expect(outgoing.messages.length).toBe(count);
});

test("a probe that fails or hangs and a source that throws are null, and never asked in a pile", async () => {
  let asked = 0;
  const { clock, outgoing } = await started(
    { probeTimeoutMs: 3_000 },
    {
      probes: {
        tempC: () => Promise.reject(new Error("no sensor")),
        disk: () => {
          asked++;
          return new Promise(() => undefined);
        },
      },
      sources: {
        commands: () => {
          throw new Error("not started");
        },
      },
    },
  );
  await clock.advance(3_000);
  expect(outgoing.bodies()[0]).toMatchObject({
    system: { cpu: { loadPercent: 5 }, mem: { totalBytes: 2 }, disk: null, tempC: null },
    commands: null,
    plugins: [],
  });
  await clock.advance(300_000);
  expect(outgoing.messages.length).toBeGreaterThanOrEqual(5);
  expect(asked).toBe(1);
});

test("a report that the outbox refuses is counted, and the next one comes", async () => {
  const { clock, outgoing, health } = await started();
  outgoing.refuse = new HoldfastError("store_not_writable");
  await clock.advance(120_000);
  expect(health.stats()).toMatchObject({ sent: 1, failed: 2 });
  outgoing.refuse = undefined;
  await clock.advance(60_000);
  expect(health.stats()).toMatchObject({ sent: 2, failed: 2 });
});

test("the status goes by the worst alarm", async () => {
  const raised: { alarm: string; severity: "info" | "warning" | "critical" }[] = [];
  const alarms = () => raised.map((alarm) => ({ ...alarm, cause: "x", at: 1 }));
  const { health } = await started({}, { sources: { alarms } });
  expect(health.status()).toBe("ok");
  raised.push({ alarm: "a", severity: "info" });
  expect(health.status()).toBe("ok");
  raised.push({ alarm: "b", severity: "warning" });
  expect(health.status()).toBe("degraded");
  raised.push({ alarm: "c", severity: "critical" });
  expect(health.status()).toBe("failing");
});

test("stop ends it at once, also in a hung probe, and leaves no timer", async () => {
  const { clock, health, outgoing } = await started(
    {},
    { probes: { cpu: () => new Promise(() => undefined) } },
  );
  await health.stop(never);
  await health.stop(never);
  expect(clock.sleeping).toBe(0);
  expect(outgoing.messages).toEqual([]);
});

test("a nonce is new each time", () => {
  const random = new SystemRandom();
  expect(newNonce(random)).toMatch(/^[A-Za-z0-9_-]{16}$/);
  expect(newNonce(random)).not.toBe(newNonce(random));
});

test("this machine's own values are real", async () => {
  const stateDir = mkdtempSync(join(tmpdir(), "holdfast-test-"));
  onTestFinished(() => rmSync(stateDir, { recursive: true }));
  const health = new Health(
    { topic: "t", intervalMs: 60_000, nonce: "n", probeTimeoutMs: 20_000 },
    {
      sources,
      probes: systemProbes({ stateDir }),
      outgoing: new FakeOutgoing(),
      clock: new SystemClock(),
      log: silentLog,
    },
  );
  const { system } = await health.report(never);
  expect(system?.cpu?.cores).toBeGreaterThanOrEqual(1);
  expect(system?.cpu?.loadPercent).toBeGreaterThanOrEqual(0);
  expect(system?.cpu?.loadPercent).toBeLessThanOrEqual(100);
  for (const part of [system?.mem, system?.disk]) {
    expect(part?.totalBytes).toBeGreaterThan(1e6);
    expect(part?.availableBytes).toBeLessThanOrEqual(part?.totalBytes ?? 0);
  }
  expect(system?.tempC === null || typeof system?.tempC === "number").toBe(true);
});
