/** Alarms: edges are told once, kept over restarts, never lost to a refusal, bounded in flapping. */
import fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";
import { HoldfastError } from "../../../agent/core/errors.ts";
import { silentLog } from "../../../agent/core/log.ts";
import { Alarms } from "../../../agent/health/health.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { MemoryStore } from "../../support/memory-store.ts";
import { FakeOutgoing, never } from "./support.ts";

interface Body {
  readonly alarm: string;
  readonly state: "raised" | "cleared";
  readonly severity: string;
  readonly cause: string;
  readonly at: number;
  readonly edges?: number;
}

interface Rig {
  readonly alarms: Alarms;
  readonly clock: FakeClock;
  readonly store: MemoryStore;
  readonly outgoing: FakeOutgoing;
}

function rig(store = new MemoryStore()): Rig {
  const clock = new FakeClock();
  const outgoing = new FakeOutgoing();
  const options = { topic: "GW_UP/alarm/gw-01", gapMs: 10_000 };
  const alarms = new Alarms(options, { store, outgoing, clock, log: silentLog });
  return { alarms, clock, store, outgoing };
}

async function started(store?: MemoryStore): Promise<Rig> {
  const made = rig(store);
  const abort = new AbortController();
  onTestFinished(() => abort.abort());
  await made.alarms.start(abort.signal);
  return made;
}

const hot = { severity: "critical", cause: "91 degrees" } as const;

test("raised once, however often it is raised; cleared once", async () => {
  const { alarms, clock, outgoing } = await started();
  for (let i = 0; i < 5; i++) {
    alarms.raise("cpu.hot", hot);
    await clock.advance(20_000);
  }
  expect(alarms.list()).toMatchObject([{ alarm: "cpu.hot", ...hot }]);
  const raisedAt = alarms.list()[0]?.at;
  alarms.clear("cpu.hot");
  alarms.clear("cpu.hot");
  await clock.advance(20_000);
  expect(alarms.list()).toEqual([]);
  expect(outgoing.messages).toMatchObject([
    { topic: "GW_UP/alarm/gw-01", lane: "alarm", key: "cpu.hot" },
    { topic: "GW_UP/alarm/gw-01", lane: "alarm", key: "cpu.hot" },
  ]);
  expect(outgoing.bodies()).toEqual([
    { alarm: "cpu.hot", state: "raised", ...hot, at: raisedAt },
    { alarm: "cpu.hot", state: "cleared", ...hot, at: expect.any(Number) },
  ]);
});

test("clearing what is not raised is nothing; a change of severity is an edge", async () => {
  const { alarms, clock, outgoing } = await started();
  alarms.clear("never");
  alarms.raise("disk", { severity: "warning", cause: "80 %" });
  await clock.advance(20_000);
  alarms.raise("disk", { severity: "critical", cause: "99 %" });
  await clock.advance(20_000);
  expect(outgoing.bodies<Body>().map(({ severity }) => severity)).toEqual(["warning", "critical"]);
});

test("what is raised before the start is told after it, without doubling what was kept", async () => {
  const first = await started();
  first.alarms.raise("kept", hot);
  await first.clock.advance(1_000);
  await first.alarms.stop(never);
  const second = rig(first.store.afterPowerCut());
  second.alarms.raise("kept", hot);
  second.alarms.raise("new", hot);
  expect(second.alarms.list()).toEqual([]);
  await second.alarms.start(never);
  await second.clock.advance(1_000);
  expect(
    second.alarms
      .list()
      .map(({ alarm }) => alarm)
      .sort(),
  ).toEqual(["kept", "new"]);
  // The mark that it was told is not synced, so after a power cut `kept` may come once more.
  const told = second.outgoing.bodies<Body>().map(({ alarm }) => alarm);
  expect(told.filter((alarm) => alarm === "new")).toEqual(["new"]);
  await second.alarms.stop(never);
});

test("raised alarms outlive a restart and are not told again", async () => {
  const first = await started();
  first.alarms.raise("a", hot);
  first.alarms.raise("b", hot);
  await first.clock.advance(1_000);
  first.alarms.clear("b");
  await first.clock.advance(20_000);
  await first.alarms.stop(never);
  const second = await started(first.store.afterKill());
  await second.clock.advance(60_000);
  expect(second.alarms.list()).toEqual(first.alarms.list());
  expect(second.outgoing.messages).toEqual([]);
  second.alarms.clear("a");
  await second.clock.advance(1_000);
  expect(second.outgoing.bodies()).toMatchObject([{ alarm: "a", state: "cleared" }]);
});

test("an edge that the outbox refuses is told later, after a restart too", async () => {
  const first = await started();
  first.outgoing.refuse = new HoldfastError("lane_full");
  first.alarms.raise("a", hot);
  await first.clock.advance(600_000);
  expect(first.outgoing.attempts).toBeGreaterThan(5);
  expect(first.outgoing.attempts).toBeLessThan(30); // Backed off, not hammered.
  const second = await started(first.store.afterPowerCut());
  await second.clock.advance(1_000);
  expect(second.outgoing.bodies()).toMatchObject([{ alarm: "a", state: "raised" }]);
  first.outgoing.refuse = undefined;
  await first.clock.advance(60_000);
  expect(first.outgoing.bodies()).toMatchObject([{ alarm: "a", state: "raised" }]);
});

test("a store that takes no writes holds back no message, and is written later", async () => {
  const { alarms, clock, store, outgoing } = await started();
  store.failCommits(3);
  alarms.raise("a", hot);
  await clock.advance(100);
  expect(outgoing.bodies()).toMatchObject([{ alarm: "a", state: "raised" }]);
  await clock.advance(120_000);
  const after = await started(store.afterKill());
  await after.clock.advance(1_000);
  expect(after.alarms.list()).toEqual(alarms.list());
  expect(after.outgoing.messages).toEqual([]);
});

test("kept alarms that cannot be read do not keep the agent from starting", async () => {
  const first = await started();
  first.alarms.raise("a", hot);
  await first.clock.advance(1_000);
  const store = first.store.afterKill();
  const codec = { encode: () => Buffer.from("garbage"), decode: () => undefined };
  await store.commit([store.table("alarms", codec).put("b", undefined)], { sync: true });
  const second = await started(store);
  second.alarms.raise("c", hot);
  await second.clock.advance(1_000);
  expect(second.outgoing.bodies()).toContainEqual(expect.objectContaining({ alarm: "c" }));
});

test("flapping gives one message in a gap, with the latest state and the number of changes", async () => {
  const { alarms, clock, outgoing } = await started();
  for (let i = 0; i < 100; i++) {
    alarms.raise("flap", hot);
    await clock.advance(250);
    alarms.clear("flap");
    await clock.advance(250);
  }
  await clock.advance(60_000);
  const bodies = outgoing.bodies<Body>();
  expect(bodies.length).toBeLessThanOrEqual(2 + 50_000 / 10_000);
  expect(bodies.at(-1)?.state).toBe("cleared");
  const edges = bodies.reduce((sum, body) => sum + (body.edges ?? 1), 0);
  expect(edges).toBe(200);
});

test("an alarm that comes and goes while the outbox is slow is still told", async () => {
  const { alarms, clock, outgoing } = await started();
  let release = (): void => undefined;
  outgoing.hold = new Promise((resolve) => {
    release = resolve;
  });
  alarms.raise("a", hot);
  await clock.advance(100);
  alarms.clear("a");
  alarms.raise("a", hot);
  alarms.clear("a");
  release();
  outgoing.hold = undefined;
  await clock.advance(30_000);
  expect(outgoing.bodies()).toMatchObject([{ state: "raised" }, { state: "cleared", edges: 3 }]);
});

test("names are made fit, causes are cut, and a flood of names is bounded", async () => {
  const { alarms, clock, outgoing } = await started();
  alarms.raise("Häß lich/✗", { severity: "info", cause: "x".repeat(10_000) });
  expect(alarms.list()[0]).toMatchObject({ alarm: "h___lich__" });
  for (let i = 0; i < 1_000; i++) alarms.raise(`flood.${i}`, hot);
  await clock.advance(1_000);
  expect(alarms.list().length).toBe(200);
  expect(outgoing.messages.length).toBe(200);
  expect(Math.max(...outgoing.messages.map(({ payload }) => payload.length))).toBeLessThan(600);
  alarms.clear("flood.0");
  await clock.advance(20_000);
  await clock.advance(20_000);
  alarms.raise("fits.again", hot);
  expect(alarms.list().some(({ alarm }) => alarm === "fits.again")).toBe(true);
});

test("listeners hear changes, not repeats", async () => {
  const { alarms } = await started();
  let heard = 0;
  const end = alarms.onChange(() => {
    heard++;
  });
  alarms.raise("a", hot);
  alarms.raise("a", hot);
  alarms.clear("a");
  end();
  alarms.raise("a", hot);
  expect(heard).toBe(2);
});

test("stop leaves no timer and may be called again", async () => {
  const { alarms, clock } = await started();
  alarms.raise("a", hot);
  await clock.advance(1_000);
  await alarms.stop(never);
  await alarms.stop(never);
  expect(clock.sleeping).toBe(0);
});

test("whatever happens, the last message of each alarm is its state, restarts included", async () => {
  const name = fc.constantFrom("a", "b");
  const step = fc.oneof(
    fc.record({ do: fc.constant("raise" as const), name }),
    fc.record({ do: fc.constant("clear" as const), name }),
    fc.record({ do: fc.constant("advance" as const), ms: fc.integer({ min: 1, max: 30_000 }) }),
    fc.record({ do: fc.constantFrom("refuse" as const, "accept" as const, "kill" as const) }),
    fc.record({ do: fc.constant("failCommits" as const), count: fc.integer({ min: 1, max: 3 }) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      let now = await started();
      let failing = false;
      const told = new Map<string, string>();
      const collect = () => {
        for (const { alarm, state } of now.outgoing.bodies<Body>()) told.set(alarm, state);
        now.outgoing.messages.length = 0;
      };
      for (const it of steps) {
        if (it.do === "raise") now.alarms.raise(it.name, hot);
        else if (it.do === "clear") now.alarms.clear(it.name);
        else if (it.do === "advance") await now.clock.advance(it.ms);
        else if (it.do === "refuse") now.outgoing.refuse = new HoldfastError("lane_full");
        else if (it.do === "accept") now.outgoing.refuse = undefined;
        else if (it.do === "failCommits") {
          now.store.failCommits(it.count);
          failing = true;
        } else {
          // What a disk never took cannot outlive a kill, so a disk that fails heals before it.
          await now.clock.advance(failing ? 300_000 : 0);
          failing = false;
          collect();
          const store = now.store.afterKill();
          await now.alarms.stop(never);
          now = await started(store);
        }
      }
      now.outgoing.refuse = undefined;
      await now.clock.advance(300_000);
      collect();
      const raised = now.alarms
        .list()
        .map(({ alarm }) => alarm)
        .sort();
      const last = [...told].filter(([, state]) => state === "raised").map(([alarm]) => alarm);
      expect(last.sort()).toEqual(raised);
      await now.alarms.stop(never);
    }),
    { numRuns: 150 },
  );
});
