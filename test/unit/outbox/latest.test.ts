/** Lanes that keep only the newest message of a key. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MemoryVolatileLog } from "../../support/memory-volatile-log.ts";
import { codeOf, follow, lane, numbers, startRig, texts as textsOf } from "./rig.ts";

const lanes = { telemetry: lane({ keep: "latest" }) };

describe("keep latest", () => {
  test("a newer message takes the place of one that waits, each key for itself", async () => {
    const { put, drain, statsOf } = await startRig({ lanes });
    for (const text of ["a1", "b1", "a2", "a3", "b2"]) await put(text, { key: text[0] as string });
    expect(statsOf()).toMatchObject({ messages: 2, dropped: {}, replaced: 3 });
    expect(await drain()).toEqual(["a3", "b2"]);
    expect(statsOf()).toMatchObject({ messages: 0, bytes: 0 });
  });

  test("messages without a key all stay, and other lanes keep all", async () => {
    const rig = await startRig({ lanes: { ...lanes, all: lane() } });
    for (const text of ["1", "2"]) await rig.put(text);
    for (const text of ["3", "4"]) await rig.put(text, { lane: "all", key: "k" });
    expect(await rig.drain()).toEqual(["1", "2", "3", "4"]);
  });

  test("never one in flight: it is delivered, and then the newer one", async () => {
    const { outbox, put, take, drain } = await startRig({ lanes });
    await put("old", { key: "k" });
    const batch = await take();
    await put("new", { key: "k" });
    outbox.settle(batch.ids);
    expect(await drain()).toEqual(["new"]);
  });

  test("a put that is replaced before it is safe resolves when the newer one is", async () => {
    const { clock, put, drain, statsOf } = await startRig({ lanes });
    const both = ["old", "new"].map((text) => follow(put(text, { key: "k" })));
    expect(statsOf().messages).toBe(1);
    await clock.advance(100);
    expect(both).toEqual([{ outcome: "disk" }, { outcome: "disk" }]);
    expect(await drain()).toEqual(["new"]);
  });

  test("a refused put costs neither the message before it nor its place", async () => {
    const rig = await startRig({ lanes });
    await rig.put("safe", { key: "k" });
    rig.store.failCommits(1);
    expect(await codeOf(rig.put("refused", { key: "k" }))).toBe("store_not_writable");
    expect(await rig.drain()).toEqual(["safe"]);
    await rig.clock.advance(500); // The disk is tried again.
    await rig.put("a", { key: "k" });
    await rig.put("b", { key: "k" });
    expect(await rig.drain()).toEqual(["b"]);
  });

  test("a full lane that refuses still takes the newer state of a key that it has", async () => {
    const full = { telemetry: lane({ keep: "latest", maxMessages: 2 }) };
    const { put, statsOf, drain } = await startRig({ lanes: full });
    await put("a1", { key: "a" });
    await put("b1", { key: "b" });
    expect(await codeOf(put("c1", { key: "c" }))).toBe("lane_full");
    expect(await codeOf(put("a2", { key: "a" }))).toBe("accepted");
    expect(statsOf().messages).toBe(2);
    expect(await drain()).toEqual(["b1", "a2"]);
  });

  test("what replaces a message on disk is not sent before the disk has it", async () => {
    // Else a power cut would bring the old one back behind the new one, which left no trace.
    const { outbox, clock, store, put, take } = await startRig({ lanes });
    await put("old", { key: "k" });
    outbox.setOnline(true);
    const second = follow(put("new", { key: "k" }));
    const first = await take(1); // The old one may go as long as it is there.
    expect(first.count).toBe(1);
    expect((await take()).count).toBe(0);
    await clock.advance(100);
    expect(second.outcome).toBe("disk");
    const again = await startRig({ lanes, store: store.afterPowerCut(), seed: 2 });
    expect(await again.drain()).toEqual(["new"]);
  });

  test("on a disk that takes nothing it is sent all the same", async () => {
    const { outbox, clock, store, put, take } = await startRig({ lanes });
    await put("old", { key: "k" });
    outbox.setOnline(true);
    store.failCommits(1_000);
    const second = follow(put("new", { key: "k" }));
    await clock.advance(200);
    outbox.settle((await take()).ids);
    outbox.settle((await take()).ids);
    expect(second.outcome).toBe("broker");
  });

  test("a lane that kept all before is thinned out at the start", async () => {
    const first = await startRig({ lanes: { telemetry: lane() } });
    await Promise.all(
      numbers(1, 70).map((text) => first.put(text, { key: `k${Number(text) % 3}` })),
    );
    const second = await startRig({ lanes, store: first.store.afterPowerCut(), seed: 2 });
    expect(second.statsOf().messages).toBe(3);
    await second.clock.advance(2_000);
    const third = await startRig({ lanes, store: second.store.afterPowerCut(), seed: 3 });
    expect(await third.drain()).toEqual(["68", "69", "70"]);
    expect(third.statsOf()).toMatchObject({ messages: 0, bytes: 0, dropped: {} });
  });

  test("memory and disk hold what waits, not what was replaced", async () => {
    const { store, put, statsOf, drain } = await startRig({ lanes });
    await put("first", { key: "first" });
    const large = "x".repeat(10_000);
    for (let n = 1; n <= 3_000; n++) await put(`${n}${large}`, { key: "k" });
    expect(statsOf()).toMatchObject({ messages: 2, replaced: 2_999 });
    const again = await startRig({ lanes, store: store.afterPowerCut(), seed: 2 });
    expect(again.statsOf().messages).toBeLessThan(5);
    expect((await drain()).map((text) => text.slice(0, 5))).toEqual(["first", "3000x"]);
  });

  test("what left memory is replaced on disk, and the accounts stay true", async () => {
    const rig = await startRig({ lanes });
    const large = "x".repeat(10_000);
    const putAll = (round: number): Promise<unknown> =>
      Promise.all(numbers(1, 100).map((key) => rig.put(`${key} ${round} ${large}`, { key })));
    await putAll(1); // More than a lane keeps in memory.
    await putAll(2);
    const one = rig.statsOf().bytes;
    expect(rig.statsOf()).toMatchObject({ messages: 100, replaced: 100 });
    const batch = await rig.take(3); // Some are read back.
    await putAll(3);
    expect(rig.statsOf()).toMatchObject({ messages: 103, replaced: 197 });
    rig.outbox.settle(batch.ids);
    expect(rig.statsOf().bytes).toBe(one);
    const sent = await rig.drain();
    expect(sent.map((text) => text.slice(0, -large.length))).toEqual(
      numbers(1, 100).map((key) => `${key} 3 `),
    );
    expect(rig.statsOf()).toMatchObject({ messages: 0, bytes: 0, dropped: {} });
  });

  test("a staged message replaces when it is committed", async () => {
    const rig = await startRig({ lanes });
    await rig.put("old", { key: "k" });
    const message = { topic: "up/t", lane: "telemetry", key: "k", payload: Buffer.from("staged") };
    rig.outbox.stage(message).abandoned();
    const staged = rig.outbox.stage(message);
    expect(rig.statsOf().messages).toBe(2);
    await rig.store.commit(staged.writes, { sync: true });
    staged.committed();
    expect(rig.statsOf().messages).toBe(1);
    expect(await rig.drain()).toEqual(["staged"]);
  });
});

type Action =
  | { do: "put"; key: number; size: number }
  | { do: "take" | "settle" | "time" | "fail" | "kill" | "power" | "online" | "offline" };

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant("put" as const),
      key: fc.nat({ max: 4 }),
      size: fc.constantFrom(1, 1, 1, 60_000),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom("take", "settle", "time", "time", "online", "offline" as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("fail", "kill", "power" as const) }) },
);

test("against a model: the last message of a key that arrives is the newest accepted one", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 60 }), async (actions) => {
      let volatile = new MemoryVolatileLog();
      let rig = await startRig({ lanes, volatile, seed: 1 });
      let taken: Awaited<ReturnType<typeof rig.take>>[] = [];
      const newest = new Map<number, number>();
      const arrived = new Map<number, number[]>();
      let counter = 0;
      let lives = 1;
      const receive = (texts: readonly string[]): void => {
        for (const text of texts) {
          const [key = "", n = ""] = text.split(" ");
          const list = arrived.get(Number(key)) ?? [];
          arrived.set(Number(key), [...list, Number(n)]);
        }
      };
      for (const step of actions) {
        if (step.do === "put") {
          const n = ++counter;
          const life = lives;
          const text = `${step.key} ${n} ${"x".repeat(step.size)}`;
          rig.put(text, { key: `k${step.key}` }).then(
            () => {
              if (life === lives) newest.set(step.key, Math.max(n, newest.get(step.key) ?? 0));
            },
            () => undefined,
          );
        } else if (step.do === "take") {
          const batch = await rig.take(3);
          taken.push(batch);
          receive(textsOf(batch));
        } else if (step.do === "settle") {
          for (const { ids } of taken.splice(0, 1)) rig.outbox.settle(ids);
        } else if (step.do === "time") await rig.clock.advance(70);
        else if (step.do === "fail") rig.store.failCommits(2);
        else if (step.do === "online") rig.outbox.setOnline(true);
        else if (step.do === "offline") rig.outbox.setOnline(false);
        else {
          await rig.clock.advance(0);
          lives++;
          taken = [];
          if (step.do === "power") volatile = new MemoryVolatileLog();
          const store = step.do === "power" ? rig.store.afterPowerCut() : rig.store.afterKill();
          rig = await startRig({ lanes, volatile, store, seed: lives, bootId: `boot ${lives}` });
        }
      }
      rig.store.failCommits(0);
      await rig.clock.advance(1_000);
      for (const { ids } of taken) rig.outbox.settle(ids);
      receive(await rig.drain());
      expect(rig.statsOf()).toMatchObject({ messages: 0, bytes: 0, dropped: {} });
      for (const [key, n] of newest) {
        expect(arrived.get(key)?.at(-1), `key ${key}`).toBeGreaterThanOrEqual(n);
      }
      for (const list of arrived.values()) {
        const firsts = list.filter((n, i) => list.indexOf(n) === i);
        expect(firsts).toEqual([...firsts].sort((a, b) => a - b));
      }
    }),
    { numRuns: 300 },
  );
});
