/** I2: the order in a lane, wherever its messages are: in memory, on disk, or half of each. */
import { describe, expect, test } from "vitest";
import { FakeClock } from "../../support/fake-clock.ts";
import { SeededRandom } from "../../support/seeded-random.ts";
import { lane, never, numbers, startRig, texts } from "./rig.ts";

const filler = "x".repeat(3_000);
const numberOf = (text: string): number => Number.parseInt(text, 10);

describe("take", () => {
  test("gives the more urgent lane first, and order within a lane", async () => {
    const lanes = { telemetry: lane({ priority: 5 }), alarm: lane({ priority: 1 }) };
    const { put, take } = await startRig({ lanes });
    await put("t1");
    await put("a1", { lane: "alarm" });
    await put("t2");
    await put("a2", { lane: "alarm" });
    expect(texts(await take(3))).toEqual(["a1", "a2", "t1"]);
    await put("a3", { lane: "alarm" });
    expect(texts(await take())).toEqual(["a3", "t2"]);
  });

  test("keeps to the messages and the bytes, but gives at least one", async () => {
    const { put, take } = await startRig();
    for (const text of numbers(1, 10)) await put(text);
    expect(texts(await take(3))).toEqual(["1", "2", "3"]);
    const one = (await take(1)).bytes.length;
    expect(texts(await take(100, 2 * one))).toEqual(["5", "6"]);
    expect(texts(await take(100, 1))).toEqual(["7"]);
  });

  test("waits for something to send, and gives up when asked", async () => {
    const { outbox, put } = await startRig();
    const waiting = outbox.take({ messages: 10, bytes: 1e6 }, never);
    await put("a");
    expect(texts(await waiting)).toEqual(["a"]);
    const given = new AbortController();
    const aborted = outbox.take({ messages: 10, bytes: 1e6 }, given.signal);
    given.abort();
    expect((await aborted).count).toBe(0);
  });

  test("gives a message once, and settling what was never taken does nothing", async () => {
    const { outbox, put, take, statsOf } = await startRig();
    await put("a");
    await put("b");
    outbox.settle([{ epoch: outbox.epoch, from: 1, to: 2 }]);
    outbox.settle([{ epoch: "01JD0000000000000000000000", from: 1, to: 9 }]);
    expect(statsOf().messages).toBe(2);
    const batch = await take();
    expect(batch.ids).toEqual([{ epoch: outbox.epoch, from: 1, to: 2 }]);
    expect((await take()).count).toBe(0);
    outbox.settle(batch.ids);
    outbox.settle(batch.ids);
    expect(statsOf()).toMatchObject({ messages: 0, bytes: 0 });
    expect(outbox.stats().inFlight).toBe(0);
  });
});

describe("a backlog larger than memory", () => {
  test("comes back in order, each message once, while new ones come in", async () => {
    const { put, take, outbox, statsOf } = await startRig();
    const seen: number[] = [];
    let next = 1;
    const putSome = async (count: number): Promise<void> => {
      await Promise.all(
        numbers(next, next + count - 1).map((n) => put(`${n} ${filler}`, { topic: "up/t" })),
      );
      next += count;
    };
    const takeSome = async (count: number): Promise<void> => {
      const batch = await take(count);
      seen.push(...texts(batch).map(numberOf));
      outbox.settle(batch.ids);
    };
    await putSome(500);
    for (let i = 0; i < 20; i++) {
      await takeSome(37);
      await putSome(45);
    }
    while (statsOf().messages > 0) {
      const before = seen.length;
      await takeSome(300);
      expect(seen.length, "nothing more comes").toBeGreaterThan(before);
    }
    expect(seen).toEqual(numbers(1, next - 1).map(Number));
  });

  // So many that the last record read is one whose other half memory still had.
  test.each([170, 190, 210, 225])(
    "is whole when memory fills again after %i were taken",
    async (taken) => {
      const { put, take, drain } = await startRig();
      const putSome = (from: number, to: number) =>
        Promise.all(numbers(from, to).map((n) => put(`${n} ${filler}`)));
      await putSome(1, 400);
      const seen: number[] = [];
      while (seen.length < taken) seen.push(...texts(await take(5)).map(numberOf));
      await putSome(401, 800);
      seen.push(...(await drain()).map(numberOf));
      expect(seen).toEqual(numbers(1, 800).map(Number));
    },
  );

  test.each([1, 2, 3, 4, 5, 6])(
    "against a list, whatever is put, taken, settled or restarted: seed %i",
    async (seed) => {
      const random = new SeededRandom(seed);
      let rig = await startRig({ seed });
      const expected: number[] = []; // Not settled, in order.
      let untaken = 0; // Index into `expected` of the first untaken; all before it is in flight.
      let inFlight: { id: number; settle: () => void }[] = [];
      let next = 1;
      for (let step = 0; step < 60; step++) {
        const dice = random.int(10);
        if (dice < 4) {
          const count = 1 + random.int(120);
          const fresh = numbers(next, next + count - 1);
          next += count;
          await Promise.all(fresh.map((n) => rig.put(`${n} ${filler}`)));
          expected.push(...fresh.map(Number));
        } else if (dice < 7) {
          const batch = await rig.take(1 + random.int(200));
          const got = texts(batch).map(numberOf);
          expect(got).toEqual(expected.slice(untaken, untaken + got.length));
          if (untaken < expected.length) expect(got.length).toBeGreaterThan(0);
          untaken += got.length;
          const ids = batch.ids.flatMap(({ epoch, from, to }) =>
            Array.from({ length: to - from + 1 }, (_, i) => ({ epoch, seq: from + i })),
          );
          const { outbox } = rig;
          got.forEach((id, i) => {
            const { epoch, seq } = ids[i] as { epoch: string; seq: number };
            inFlight.push({ id, settle: () => outbox.settle([{ epoch, from: seq, to: seq }]) });
          });
        } else if (dice < 9) {
          for (let n = random.int(inFlight.length + 1); n > 0; n--) {
            const [one] = inFlight.splice(random.chance(0.7) ? 0 : random.int(inFlight.length), 1);
            if (!one) break;
            one.settle();
            expected.splice(expected.indexOf(one.id), 1);
            untaken--;
          }
        } else {
          await rig.outbox.stop(never);
          rig = await startRig({ seed: seed * 100 + step, store: rig.store.afterPowerCut() });
          untaken = 0;
          inFlight = [];
        }
        expect(rig.statsOf().messages).toBe(expected.length);
      }
      for (const one of inFlight) one.settle();
      const rest = (await rig.drain()).map(numberOf);
      expect(rest).toEqual(expected.slice(untaken));
      expect(rig.statsOf()).toMatchObject({ messages: 0, bytes: 0 });
    },
  );
});

describe("lifetimes", () => {
  const lanes = { telemetry: lane({ ttlMs: 10_000 }) };

  test("end by monotonic time; a message's own beats the lane's; 0 is none", async () => {
    const { clock, put, drain, statsOf } = await startRig({ lanes });
    await put("short", { ttlMs: 1_000 });
    await put("lane's");
    await put("none", { ttlMs: 0 });
    await put("long", { ttlMs: 60_000 });
    await clock.advance(10_000);
    expect(await drain()).toEqual(["lane's", "none", "long"]);
    expect(statsOf().dropped).toEqual({ ttl: 1 });

    await put("lane's");
    await put("none", { ttlMs: 0 });
    await clock.advance(10_001);
    expect(await drain()).toEqual(["none"]);
    expect(statsOf()).toMatchObject({ messages: 0, bytes: 0, dropped: { ttl: 2 } });
  });

  test("do not end by a jump of the wall clock", async () => {
    const { clock, put, drain } = await startRig({ lanes });
    await put("a");
    clock.jumpWall(10 * 365 * 86_400_000);
    await put("b");
    clock.jumpWall(-20 * 365 * 86_400_000);
    expect(await drain()).toEqual(["a", "b"]);
  });

  test("go on in another process of the same boot", async () => {
    const { clock, store, put } = await startRig({ lanes });
    await put("old");
    await clock.advance(6_000);
    await put("young");
    await clock.advance(6_000);
    const again = await startRig({ lanes, clock, store: store.afterKill() });
    expect(await again.drain()).toEqual(["young"]);
  });

  test.each([
    { before: true, after: true, expires: true },
    { before: false, after: true, expires: false },
    { before: true, after: false, expires: false },
    { before: false, after: false, expires: false },
  ])(
    "across boots only wall times that someone vouched for count: $before, $after",
    async ({ before, after, expires }) => {
      const wallMs = Date.UTC(2026, 5, 1);
      const first = await startRig({ lanes, clock: new FakeClock({ wallMs, trusted: before }) });
      await first.put("a");
      const clock = new FakeClock({ wallMs: wallMs + 10_001, monotonicMs: 1, trusted: after });
      const store = first.store.afterPowerCut();
      const second = await startRig({ lanes, clock, store, bootId: "boot-2" });
      expect(await second.drain()).toEqual(expires ? [] : ["a"]);
      expect(second.statsOf().dropped).toEqual(expires ? { ttl: 1 } : {});
    },
  );
});

describe("stats", () => {
  test("count what is there, how old it is, and what is in flight", async () => {
    const { outbox, clock, put, take, statsOf } = await startRig();
    expect(statsOf()).toEqual({ messages: 0, bytes: 0, oldestAgeMs: 0, dropped: {} });
    await put("a");
    await clock.advance(3_000);
    await put("b");
    expect(statsOf()).toMatchObject({ messages: 2, oldestAgeMs: 3_000 });
    const batch = await take(1);
    await clock.advance(500);
    expect(statsOf()).toMatchObject({ messages: 2, oldestAgeMs: 500 });
    expect(outbox.stats()).toMatchObject({ inFlight: 1, persisted: 2, elided: 0, quarantined: 0 });
    outbox.settle(batch.ids);
    expect(statsOf().messages).toBe(1);
  });

  test("a lane that the configuration no longer names is still delivered", async () => {
    const { store, put } = await startRig({ lanes: { old: lane() } });
    await put("a", { lane: "old" });
    const again = await startRig({ store: store.afterPowerCut() });
    expect(again.statsOf("old").messages).toBe(1);
    expect(await again.drain()).toEqual(["a"]);
  });
});
