/** I13, point 3: a lifetime counts the time that can be proven, and no other. */
import { describe, expect, test } from "vitest";
import { FakeClock } from "../../support/fake-clock.ts";
import { MemoryVolatileLog } from "../../support/memory-volatile-log.ts";
import { lane, never, numbers, startRig, texts } from "./rig.ts";

const DAY_MS = 86_400_000;
const lanes = { telemetry: lane({ ttlMs: 3 * DAY_MS }) };
type Rig = Awaited<ReturnType<typeof startRig>>;

async function putTwenty(rig: Rig): Promise<void> {
  await Promise.all(numbers(1, 20).map((text) => rig.put(text)));
}

/** All that expires does so now; how many did. */
async function expired(rig: Rig): Promise<number> {
  await rig.outbox.tidy();
  await rig.clock.advance(2_000);
  return rig.statsOf().dropped["ttl"] ?? 0;
}

describe("stored in 1970", () => {
  test("and the clock set to today after a boot: 0 expired", async () => {
    const first = await startRig({ lanes, clock: new FakeClock({ wallMs: 0, trusted: false }) });
    await putTwenty(first);
    const store = first.store.afterPowerCut();
    const clock = new FakeClock({ wallMs: Date.UTC(2026, 10, 23), trusted: true });
    const second = await startRig({ lanes, store, clock, bootId: "boot-2", seed: 2 });
    const count = await expired(second);
    process.stdout.write(`20 stored in 1970, the clock set to today: ${count} expired\n`);
    expect(count).toBe(0);
    expect(await second.drain()).toEqual(numbers(1, 20));
  });

  test("and the clock set to today in the same boot, or while an agent restarts: 0", async () => {
    const clock = new FakeClock({ wallMs: 0, trusted: false });
    const first = await startRig({ lanes, clock });
    await putTwenty(first);
    clock.jumpWall(Date.UTC(2026, 10, 23));
    clock.setTrusted(true);
    expect(await expired(first)).toBe(0);
    const second = await startRig({ lanes, clock, store: first.store.afterPowerCut(), seed: 2 });
    expect(await expired(second)).toBe(0);
    expect(await second.drain()).toEqual(numbers(1, 20));
  });
});

describe("a jump of the wall clock", () => {
  test.each([10 * 365, -10 * 365])("by %i days expires nothing and saves nothing", async (days) => {
    const rig = await startRig({ lanes });
    await putTwenty(rig);
    rig.clock.jumpWall(days * DAY_MS);
    expect(await expired(rig)).toBe(0);
    await rig.clock.advance(3 * DAY_MS + 1);
    expect(await expired(rig)).toBe(20);
  });
});

describe("what lives too long on disk", () => {
  test("goes without being taken, is counted, and its room is given back", async () => {
    const rig = await startRig({ lanes });
    await putTwenty(rig);
    const again = await startRig({
      ...{ lanes, store: rig.store.afterPowerCut(), clock: rig.clock, seed: 2 },
    });
    await again.clock.advance(2 * DAY_MS);
    await again.put("younger");
    await again.clock.advance(DAY_MS + 1);
    expect(await expired(again)).toBe(20);
    expect(again.statsOf()).toMatchObject({ messages: 1 });
    const { items } = await again.outbox.list(undefined, 100);
    expect(items.map(({ id }) => id)).toEqual([`${again.outbox.epoch}-1`]);
    expect(await again.drain()).toEqual(["younger"]);
  });

  test("goes by the wall clock over a boot only where both times are trusted", async () => {
    for (const [before, after, count] of [
      [true, true, 20],
      [true, false, 0],
      [false, true, 0],
    ] as const) {
      const wallMs = Date.UTC(2026, 0, 1);
      const first = await startRig({ lanes, clock: new FakeClock({ wallMs, trusted: before }) });
      await putTwenty(first);
      const clock = new FakeClock({ wallMs: wallMs + 4 * DAY_MS, trusted: after });
      const store = first.store.afterPowerCut();
      const second = await startRig({ lanes, store, clock, bootId: "boot-2", seed: 2 });
      expect(await expired(second), `${before} ${after}`).toBe(count);
    }
  });

  test("is looked at a bounded part at a time", async () => {
    const rig = await startRig({ lanes });
    for (let n = 0; n < 10; n++) {
      await Promise.all(numbers(1, 4_000).map((text) => rig.put(text)));
    }
    const again = await startRig({
      ...{ lanes, store: rig.store.afterPowerCut(), clock: rig.clock, seed: 2 },
    });
    await again.clock.advance(4 * DAY_MS);
    await again.outbox.tidy();
    const first = again.statsOf().dropped["ttl"] ?? 0;
    expect(first).toBeGreaterThan(1_000);
    expect(first).toBeLessThan(40_000);
    for (let looks = 0; looks < 40; looks++) await again.outbox.tidy();
    expect(await expired(again)).toBe(40_000);
  });

  test("a look beside a reader keeps the order", async () => {
    const rig = await startRig({ lanes });
    const all = numbers(1, 3_000).map((text) => rig.put(text, { ttlMs: 0 }));
    await Promise.all(all);
    const store = rig.store.afterPowerCut();
    const again = await startRig({ lanes, store, clock: rig.clock, seed: 2 });
    await again.clock.advance(4 * DAY_MS); // Over by the lane's lifetime, not by their own.
    let release: (() => void) | undefined;
    store.beforeRange = () =>
      new Promise((resolve) => {
        release = resolve;
        store.beforeRange = () => Promise.resolve();
      });
    const reading = again.outbox.take({ messages: 10_000, bytes: 1e9 }, never);
    const looking = again.outbox.tidy();
    await again.clock.advance(10);
    release?.();
    const first = await reading;
    await looking;
    expect([...texts(first), ...(await again.drain())]).toEqual(numbers(1, 3_000));
  });
});

describe("a producer's id", () => {
  test("is known after a kill also when its message was delivered, and not after a power cut", async () => {
    const producers = new MemoryVolatileLog();
    const first = await startRig({ producers });
    first.outbox.setOnline(true);
    const sent = first.put("once", { producerId: "p-1" });
    first.outbox.settle((await first.take()).ids);
    const { id } = await sent;
    const second = await startRig({ producers, store: first.store.afterKill(), seed: 2 });
    expect((await second.put("once", { producerId: "p-1" })).id).toBe(id);
    const third = await startRig({ producers, store: second.store.afterKill(), seed: 3 });
    expect((await third.put("once", { producerId: "p-1" })).id).toBe(id);
    expect(third.statsOf().messages).toBe(0);
    const fourth = await startRig({ store: third.store.afterPowerCut(), seed: 4 });
    expect((await fourth.put("once", { producerId: "p-1" })).id).not.toBe(id);
  });

  test("takes a bounded log, however many are delivered, and each lane keeps its own", async () => {
    const producers = new MemoryVolatileLog();
    const both = { telemetry: lane(), rare: lane() };
    const first = await startRig({ producers, lanes: both });
    const rare = first.put("rare", { producerId: "rare", lane: "rare" });
    let largest = 0;
    for (let n = 0; n < 20; n++) {
      const all = numbers(1, 1_000).map((text) => first.put(text, { producerId: `p${n}-${text}` }));
      await first.drain();
      await Promise.all(all);
      largest = Math.max(largest, producers.length);
    }
    expect(largest).toBeLessThan(4 * 4_096 * 100);
    const second = await startRig({
      ...{ producers, lanes: both, store: first.store.afterKill() },
    });
    const again = await second.put("rare", { producerId: "rare", lane: "rare" });
    expect(again.id).toBe((await rare).id);
    expect((await second.put("x", { producerId: "p19-1" })).id).toContain(first.outbox.epoch);
    expect(second.statsOf().messages).toBe(0);
  });

  test("is known after a power cut while its message is in the store, in its lane", async () => {
    const both = { telemetry: lane(), other: lane() };
    const first = await startRig({ lanes: both });
    const { id } = await first.put("once", { producerId: "p-1" });
    await first.put("without");
    const store = first.store.afterPowerCut();
    const second = await startRig({ lanes: both, store, seed: 2 });
    expect(await second.put("once", { producerId: "p-1" })).toEqual({ id, seq: 1, safe: "disk" });
    expect(second.statsOf().messages).toBe(2);
    expect((await second.put("once", { producerId: "p-1", lane: "other" })).id).not.toBe(id);
    expect(await second.drain()).toEqual(["once", "without", "once"]);
    expect((await second.put("once", { producerId: "p-1" })).id).toBe(id); // Sent since.
  });

  test("is forgotten after 4,096 others, also over a restart", async () => {
    const first = await startRig();
    const all = numbers(1, 4_097).map((text) => first.put(text, { producerId: `p${text}` }));
    await Promise.all(all);
    const second = await startRig({ store: first.store.afterPowerCut(), seed: 2 });
    expect((await second.put("2", { producerId: "p2" })).id).toBe((await all[1])?.id);
    expect((await second.put("1", { producerId: "p1" })).id).not.toBe((await all[0])?.id);
  });
});
