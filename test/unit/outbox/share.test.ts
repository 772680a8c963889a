import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FairShare } from "../../../agent/outbox/share.ts";
import { lane, startRig, texts } from "./rig.ts";

const LARGEST = 65_536;
const TURN = 4_096;

describe("deficit round robin", () => {
  test("whoever always has something gets its share, but for a turn and a message", () => {
    const weights = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 2, maxLength: 5 });
    const sizes = fc.array(fc.integer({ min: 2, max: LARGEST }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(weights, sizes, (given, messageSizes) => {
        const share = new FairShare(given.map((weight, item) => ({ item, weight })));
        const sent = given.map(() => 0);
        const next = given.map((_, item) => item); // Each goes through the sizes from elsewhere.
        const size = (item: number): number =>
          messageSizes[(next[item] as number) % messageSizes.length] as number;
        for (let n = 0; n < 2_000; n++) {
          const item = share.pick(size) as number;
          expect(share.pick(size)).toBe(item);
          const bytes = size(item);
          share.charge(bytes);
          sent[item] = (sent[item] as number) + bytes;
          next[item] = (next[item] as number) + 1;
        }
        const least = Math.min(...given);
        const turns = given.map(
          (weight, item) => (sent[item] as number) / ((TURN * weight) / least),
        );
        const slack = 2 + LARGEST / TURN;
        expect(Math.max(...turns) - Math.min(...turns)).toBeLessThanOrEqual(slack);
      }),
      { numRuns: 60 },
    );
  });

  test("nobody waits while somebody has something, and idling earns nothing", () => {
    const queue = fc.array(fc.integer({ min: 2, max: LARGEST }), { maxLength: 8 });
    fc.assert(
      fc.property(fc.array(queue, { minLength: 1, maxLength: 5 }), (given) => {
        const queues = given.map((sizes) => [...sizes]);
        const share = new FairShare(given.map((_, item) => ({ item, weight: item + 1 })));
        const head = (item: number): number | undefined => queues[item]?.[0];
        for (let left = given.flat().length; left > 0; left--) {
          const item = share.pick(head);
          expect(item).toBeDefined();
          share.charge(queues[item as number]?.shift() as number);
        }
        expect(share.pick(head)).toBeUndefined();
      }),
    );
    const share = new FairShare([
      { item: "idle", weight: 1 },
      { item: "busy", weight: 1 },
    ]);
    for (let n = 0; n < 1_000; n++) {
      expect(share.pick((item) => (item === "busy" ? 1_000 : undefined))).toBe("busy");
      share.charge(1_000);
    }
    let idle = 0;
    for (let n = 0; n < 100; n++) {
      if (share.pick(() => 1_000) === "idle") idle++;
      share.charge(1_000);
    }
    expect(idle).toBeGreaterThan(40);
    expect(idle).toBeLessThan(60);
  });
});

describe("the drain", () => {
  const lanes = {
    alarm: lane({ priority: 1, share: 1 }),
    heavy: lane({ priority: 5, share: 3 }),
    light: lane({ priority: 5, share: 1 }),
    later: lane({ priority: 9, share: 100 }),
  };

  test.each([1, 16])("gives lanes of one priority their shares, %i at a time", async (window) => {
    const rig = await startRig({ lanes });
    const payload = Buffer.alloc(1_000);
    for (const name of ["later", "light", "heavy"]) {
      const all = Array.from({ length: 400 }, () =>
        rig.put("", { lane: name, topic: name, payload }),
      );
      await Promise.all(all);
    }
    const again = await startRig({ lanes, store: rig.store.afterPowerCut(), seed: 2 });
    let sent = "";
    while (sent.length < 200) {
      const batch = await again.take(window);
      for (let i = 0; i < batch.count; i++) {
        const packet = batch.bytes.subarray(batch.offsets[i], batch.offsets[i + 1]);
        sent += Buffer.from(packet.subarray(5, 10)).toString() === "heavy" ? "h" : "l";
      }
      again.outbox.settle(batch.ids);
    }
    const heavy = [...sent].filter((name) => name === "h").length / sent.length;
    expect(heavy).toBeGreaterThan(0.7);
    expect(heavy).toBeLessThan(0.8);
  });

  test("is strict between priorities, in the middle of a backlog too", async () => {
    const rig = await startRig({ lanes });
    for (let n = 0; n < 50; n++) {
      void rig.put(`later ${n}`, { lane: "later" });
      void rig.put(`light ${n}`, { lane: "light" });
    }
    await rig.clock.advance(100);
    expect(texts(await rig.take(60)).filter((text) => text.startsWith("later"))).toHaveLength(10);
    await rig.put("alarm", { lane: "alarm" });
    expect(texts(await rig.take(1))).toEqual(["alarm"]);
  });
});
