/** Room on a disk and in memory is reserved: telemetry never displaces an alarm or a reply. */
import { describe, expect, test } from "vitest";
import { codeOf, follow, lane, numbers, startRig, texts } from "./rig.ts";

const lanes = { alarm: lane({ priority: 2 }), telemetry: lane() };
const alarm = { lane: "alarm", topic: "up/alarm" };

async function startShort() {
  const rig = await startRig({ lanes });
  rig.store.shortFrom = 4;
  return rig;
}

describe("a disk without room for what is ordinary", () => {
  test("takes an alarm beside telemetry that is refused, and a power cut leaves it", async () => {
    const { store, clock, put } = await startShort();
    const ordinary = numbers(1, 500).map((text) => codeOf(put(text)));
    const important = put("fire", alarm);
    await clock.advance(2_000);
    expect((await important).safe).toBe("disk");
    expect(new Set(await Promise.all(ordinary))).toEqual(new Set(["store_not_writable"]));
    const after = await startRig({ lanes, store: store.afterPowerCut(), seed: 2 });
    expect(await after.drain()).toEqual(["fire"]);
  });

  test("while online: what waits for the service keeps no alarm from the disk", async () => {
    const { outbox, clock, put, take } = await startShort();
    outbox.setOnline(true);
    const ordinary = numbers(1, 5_000).map((text) => follow(put(text)));
    await clock.advance(500);
    const important = put("fire", alarm);
    await clock.advance(1_000);
    expect((await important).safe).toBe("disk");
    expect(new Set(ordinary.map(({ outcome }) => outcome))).toEqual(new Set(["waiting"]));
    const batch = await take(5_001);
    expect(texts(batch)).toEqual(["fire", ...numbers(1, 5_000)]);
    outbox.settle(batch.ids);
    await clock.advance(0);
    expect(new Set(ordinary.map(({ outcome }) => outcome))).toEqual(new Set(["broker"]));
  });

  test("goes on with what waited once there is room, in order", async () => {
    const { outbox, store, clock, put, drain } = await startShort();
    outbox.setOnline(true);
    const waiting = numbers(1, 20).map((text) => put(text));
    await clock.advance(1_000);
    store.shortFrom = Number.POSITIVE_INFINITY;
    await clock.advance(1_000);
    expect(new Set((await Promise.all(waiting)).map(({ safe }) => safe))).toEqual(
      new Set(["disk"]),
    );
    expect(await drain()).toEqual(numbers(1, 20));
  });
});

describe("a commit that fails", () => {
  test("once costs an alarm nothing, and ordinary messages their acceptance", async () => {
    const { store, clock, put, drain } = await startRig({ lanes });
    store.failCommits(1);
    const ordinary = codeOf(put("1"));
    const important = codeOf(put("fire", alarm));
    await clock.advance(0);
    expect(await Promise.all([ordinary, important])).toEqual(["store_not_writable", "accepted"]);
    expect(await drain()).toEqual(["fire"]);
  });

  test("twice refuses the alarm too, and the next one is tried twice again", async () => {
    const { store, clock, put } = await startRig({ lanes });
    for (const [failures, outcome] of [
      [2, "store_not_writable"],
      [1, "accepted"],
    ] as const) {
      store.failCommits(failures);
      const important = codeOf(put("fire", alarm));
      await clock.advance(600);
      expect(await important).toBe(outcome);
    }
  });
});

test("telemetry that nobody has yet leaves memory for an alarm", async () => {
  const { outbox, store, put } = await startRig({ lanes });
  outbox.setOnline(true);
  store.failCommits(Number.POSITIVE_INFINITY);
  const payload = Buffer.alloc(65_000);
  const ordinary = numbers(1, 600).map(() => follow(put("", { payload })));
  const important = follow(put("", { ...alarm, payload }));
  await new Promise(setImmediate);
  expect(ordinary.at(-1)?.outcome).toBe("too_many");
  expect(important.outcome).toBe("waiting");
});

describe("a full lane that refuses", () => {
  const bulk = { bulk: lane({ ttlMs: 10_000, maxMessages: 3_000 }) };
  const rigWith = async (count: number) => {
    const rig = await startRig({ lanes: bulk });
    const send = (text: string) => codeOf(rig.put(text.padEnd(400), { lane: "bulk" }));
    const first = numbers(1, count).map(send);
    await rig.clock.advance(0);
    expect(new Set(await Promise.all(first))).toEqual(new Set(["accepted"]));
    return { ...rig, send };
  };

  test("has room again when what is in it lived too long, without a tidy", async () => {
    const { clock, send, statsOf, outbox } = await rigWith(3_000);
    expect(await send("no")).toBe("lane_full");
    expect(outbox.reserve("bulk", 100)).toBeUndefined();
    await clock.advance(10_001);
    // The oldest are on disk only: they are read, and whoever comes next finds their room.
    await send("1");
    await clock.advance(0);
    const accepted = send("2");
    await clock.advance(0);
    expect(await accepted).toBe("accepted");
    expect(outbox.reserve("bulk", 100)).toBeDefined();
    await clock.advance(0);
    const { messages, dropped } = statsOf("bulk");
    expect(dropped["ttl"]).toBeGreaterThan(1_000);
    expect(messages + (dropped["ttl"] ?? 0)).toBeGreaterThanOrEqual(3_001);
  });

  test("finds room at once where the oldest are in memory", async () => {
    const rig = await startRig({ lanes: { bulk: lane({ ttlMs: 10_000, maxMessages: 3 }) } });
    const send = async (text: string) => {
      const sent = codeOf(rig.put(text, { lane: "bulk" }));
      await rig.clock.advance(0);
      return sent;
    };
    for (const text of numbers(1, 3)) expect(await send(text)).toBe("accepted");
    expect(await send("4")).toBe("lane_full");
    await rig.clock.advance(10_001);
    expect(rig.outbox.reserve("bulk", 100)?.release()).toBeUndefined();
    expect(await send("5")).toBe("accepted");
    expect(rig.statsOf("bulk")).toMatchObject({ messages: 3, dropped: { ttl: 1 } });
    expect(await rig.drain()).toEqual(["5"]);
  });
});
