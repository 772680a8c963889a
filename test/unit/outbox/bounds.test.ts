/** I6, I7: what a lane does at its bounds, and what is refused before it gets there. */
import { describe, expect, test } from "vitest";
import { HoldfastError } from "../../../agent/core/errors.ts";
import { limits } from "../../../agent/core/limits.ts";
import { encodedPublishSize } from "../../../agent/core/publish-packet.ts";
import { codeOf, lane, never, numbers, startRig, texts } from "./rig.ts";

const OF_TEN = encodedPublishSize("up/t".length, 10);
const ten = (text: string): string => text.padEnd(10, ".");

describe("a lane that refuses", () => {
  const lanes = {
    telemetry: lane({ maxMessages: 3 }),
    bulk: lane({ maxBytes: 3 * OF_TEN }),
  };

  test("takes its count and no more, until something is settled", async () => {
    const { outbox, put, take, statsOf } = await startRig({ lanes });
    for (const text of numbers(1, 3)) await put(text);
    expect(await codeOf(put("4"))).toBe("lane_full");
    expect(statsOf()).toMatchObject({ messages: 3, dropped: {} });
    const batch = await take(1);
    expect(await codeOf(put("4"))).toBe("lane_full"); // In flight is not gone.
    outbox.settle(batch.ids);
    expect(await codeOf(put("5"))).toBe("accepted");
  });

  test("counts bytes as well, and disturbs no other lane", async () => {
    const { put, statsOf } = await startRig({ lanes });
    for (let i = 0; i < 3; i++) await put(ten("x"), { lane: "bulk" });
    expect(await codeOf(put("", { lane: "bulk" }))).toBe("lane_full");
    expect(statsOf("bulk").bytes).toBe(3 * OF_TEN);
    expect(await codeOf(put("a"))).toBe("accepted");
  });

  test("after a restart with a smaller bound it keeps what it has and takes nothing new", async () => {
    const { store, put } = await startRig({ lanes });
    for (const text of numbers(1, 3)) await put(text);
    const smaller = { telemetry: lane({ maxMessages: 2 }) };
    const again = await startRig({ lanes: smaller, store: store.afterPowerCut() });
    expect(await codeOf(again.put("4"))).toBe("lane_full");
    expect(await again.drain()).toEqual(["1", "2", "3"]);
  });
});

describe("a lane that drops its oldest", () => {
  const dropping = (options: object) => ({
    telemetry: lane({ whenFull: "drop-oldest", ...options }),
  });

  test("lets them go one for one, counted, and delivers the newest", async () => {
    const { put, statsOf, drain } = await startRig({ lanes: dropping({ maxMessages: 5 }) });
    for (const text of numbers(1, 12)) await put(text);
    expect(statsOf()).toMatchObject({ messages: 5, dropped: { full: 7 } });
    expect(await drain()).toEqual(numbers(8, 12));
  });

  test("never drops what is in flight", async () => {
    const { outbox, put, take, drain } = await startRig({ lanes: dropping({ maxMessages: 4 }) });
    for (const text of numbers(1, 4)) await put(text);
    const inFlight = await take(2);
    for (const text of numbers(5, 8)) await put(text);
    expect(outbox.stats().inFlight).toBe(2);
    outbox.settle(inFlight.ids);
    expect(await drain()).toEqual(["7", "8"]);

    const full = await startRig({ lanes: dropping({ maxMessages: 2 }) });
    await full.put("1");
    await full.put("2");
    await full.take();
    expect(await codeOf(full.put("3"))).toBe("lane_full");
    expect(full.statsOf().dropped).toEqual({});
  });

  test("never drops room that is reserved", async () => {
    const { outbox, put, statsOf } = await startRig({ lanes: dropping({ maxMessages: 2 }) });
    const held = outbox.reserve("telemetry", 100);
    await put("1");
    await put("2");
    expect(statsOf()).toMatchObject({ messages: 1, dropped: { full: 1 } });
    const staged = outbox.stage(
      { topic: "up/t", payload: Buffer.from("reply"), lane: "telemetry" },
      held,
    );
    expect(statsOf().messages).toBe(2);
    staged.abandoned();
    expect(statsOf().messages).toBe(1);
  });

  test("a message that could never fit empties nothing", async () => {
    const lanes = dropping({ maxBytes: 5 * OF_TEN });
    const { put, statsOf, drain } = await startRig({ lanes });
    for (const text of numbers(1, 5)) await put(ten(text));
    expect(await codeOf(put("x".repeat(6 * OF_TEN)))).toBe("lane_full");
    expect(statsOf()).toMatchObject({ messages: 5, dropped: {} });
    expect(await drain()).toEqual(numbers(1, 5).map(ten));
  });

  test("what was dropped does not come back after a restart", async () => {
    const lanes = dropping({ maxMessages: 40 });
    const { outbox, store, put } = await startRig({ lanes });
    for (const text of numbers(1, 100)) await put(text);
    await outbox.stop(never);
    const again = await startRig({ lanes, store: store.afterPowerCut() });
    expect(await again.drain()).toEqual(numbers(61, 100));
  });

  test("records on disk go whole, and the accounts agree with what is delivered", async () => {
    const lanes = dropping({ maxMessages: 2_000 });
    const { put, statsOf, drain } = await startRig({ lanes });
    // Far more than a lane keeps in memory.
    const filler = "x".repeat(1_000);
    for (let i = 0; i < 5; i++) {
      await Promise.all(numbers(i * 800 + 1, i * 800 + 800).map((n) => put(`${n} ${filler}`)));
    }
    const { messages, dropped } = statsOf();
    expect(messages).toBeLessThanOrEqual(2_000);
    expect(messages + (dropped["full"] ?? 0)).toBe(4_000);
    const left = (await drain()).map((text) => Number.parseInt(text, 10));
    expect(left).toEqual(numbers(4_001 - messages, 4_000).map(Number));
    expect(statsOf()).toMatchObject({ messages: 0, bytes: 0 });
  });
});

describe("reservations", () => {
  test("count against both bounds until they are used or released, once", async () => {
    const lanes = { telemetry: lane({ maxMessages: 3, maxBytes: 300 }) };
    const { outbox, put, statsOf } = await startRig({ lanes });
    const first = outbox.reserve("telemetry", 100);
    const second = outbox.reserve("telemetry", 150);
    expect(first && second).toBeDefined();
    expect(outbox.reserve("telemetry", 100)).toBeUndefined();
    expect(await codeOf(put("x".repeat(60)))).toBe("lane_full");
    second?.release();
    second?.release();
    expect(await codeOf(put("x".repeat(60)))).toBe("accepted");
    expect(outbox.reserve("telemetry", 200)).toBeUndefined();
    first?.release();
    expect(outbox.reserve("telemetry", 200)).toBeDefined();
    expect(outbox.reserve("no such lane", 1)).toBeUndefined();
    expect(statsOf().messages).toBe(1);
  });

  test("a message within its reservation is staged in a full lane, a larger one is not", async () => {
    const lanes = { reply: lane({ maxMessages: 2 }), telemetry: lane() };
    const { outbox, put } = await startRig({ lanes });
    const small = outbox.reserve("reply", OF_TEN);
    await put("1", { lane: "reply" });
    const message = { topic: "up/t", lane: "reply" };
    const tooLarge = { ...message, payload: Buffer.alloc(11) };
    expect(() => outbox.stage(tooLarge, small)).toThrow(
      expect.objectContaining({ code: "lane_full" }) as Error,
    );
    // A reservation in another lane is no reservation here.
    const elsewhere = outbox.reserve("telemetry", 1_000);
    const fits = { ...message, payload: Buffer.alloc(10) };
    expect(() => outbox.stage(fits, elsewhere)).toThrow(
      expect.objectContaining({ code: "lane_full" }) as Error,
    );
    expect(outbox.stage(fits, small).id).toBe(`${outbox.epoch}-${2}`);
  });
});

describe("staged messages", () => {
  const reply = { topic: "up/t", payload: Buffer.from("reply"), lane: "telemetry" };

  test("take their place when committed, after what was put before", async () => {
    const { outbox, store, put, take, drain } = await startRig();
    await put("before");
    const staged = outbox.stage(reply);
    await put("between");
    expect(texts(await take())).toEqual(["before", "between"]);
    await store.commit(staged.writes, { sync: true });
    staged.committed();
    await put("after");
    expect(await drain()).toEqual(["reply", "after"]);
    expect(outbox.stats()).toMatchObject({ persisted: 4 });
  });

  test("are there after a power cut once committed, in order, and not when abandoned", async () => {
    const { outbox, store, put, statsOf } = await startRig();
    await put("before");
    const kept = outbox.stage(reply);
    const dropped = outbox.stage({ ...reply, payload: Buffer.from("never") });
    await store.commit(kept.writes, { sync: true });
    kept.committed();
    dropped.abandoned();
    await put("after");
    expect(statsOf().messages).toBe(3);
    const again = await startRig({ store: store.afterPowerCut() });
    expect(await again.drain()).toEqual(["before", "reply", "after"]);
  });

  test("are settled like any other", async () => {
    const { outbox, store, drain, statsOf } = await startRig();
    const staged = outbox.stage(reply);
    await store.commit(staged.writes, { sync: true });
    staged.committed();
    expect(await drain()).toEqual(["reply"]);
    expect(statsOf()).toMatchObject({ messages: 0, bytes: 0 });
    await outbox.stop(never);
    expect((await startRig({ store: store.afterPowerCut() })).statsOf().messages).toBe(0);
  });

  test("committed twice, or committed and abandoned, is a broken assumption", async () => {
    const { outbox } = await startRig();
    const staged = outbox.stage(reply);
    staged.abandoned();
    expect(() => staged.abandoned()).toThrow("once");
    expect(() => staged.committed()).toThrow("once");
  });
});

describe("refusals", () => {
  test("an unknown lane is named with those that exist", async () => {
    const { put } = await startRig({ lanes: { alarm: lane(), telemetry: lane() } });
    const error = await put("a", { lane: "alarms" }).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: "lane_unknown" });
    expect((error as Error).message).toContain("alarm, telemetry");
  });

  test("a topic is checked before anything is kept", async () => {
    const { put, statsOf } = await startRig({
      checkTopic: (topic) => {
        if (topic.includes("#")) throw new HoldfastError("topic_invalid");
      },
    });
    expect(await codeOf(put("a", { topic: "up/#" }))).toBe("topic_invalid");
    expect(statsOf().messages).toBe(0);
  });

  test("a payload over the service's limit, the limit itself is taken", async () => {
    const { put } = await startRig();
    const most = Buffer.alloc(limits.payloadBytes);
    expect(await codeOf(put("", { payload: most }))).toBe("accepted");
    const over = Buffer.alloc(limits.payloadBytes + 1);
    expect(await codeOf(put("", { payload: over }))).toBe("payload_too_large");
  });

  test("a key or producer id over its bytes", async () => {
    const { put } = await startRig();
    expect(await codeOf(put("a", { key: "ü".repeat(128) }))).toBe("message_invalid");
    expect(await codeOf(put("a", { producerId: "x".repeat(256) }))).toBe("message_invalid");
    expect(await codeOf(put("a", { key: "ü".repeat(127), producerId: "x" }))).toBe("accepted");
  });
});

describe("a producer's own id", () => {
  test("makes a retry safe: the same answer, one message", async () => {
    const lanes = { telemetry: lane(), alarm: lane() };
    const { put, statsOf } = await startRig({ lanes });
    const [first, meanwhile] = await Promise.all([
      put("a", { producerId: "p1" }),
      put("a", { producerId: "p1" }),
    ]);
    const later = await put("a", { producerId: "p1" });
    expect(meanwhile).toEqual(first);
    expect(later).toEqual(first);
    expect(statsOf().messages).toBe(1);
    const elsewhere = await put("a", { producerId: "p1", lane: "alarm" });
    expect(elsewhere.id).not.toBe(first.id);
  });

  test("of a refused put may be tried again", async () => {
    const { store, clock, put, drain } = await startRig();
    store.failCommits(1);
    expect(await codeOf(put("a", { producerId: "p1" }))).toBe("store_not_writable");
    const again = put("a", { producerId: "p1" });
    await clock.advance(500);
    expect((await again).safe).toBe("disk");
    expect(await drain()).toEqual(["a"]);
  });

  test("is remembered over 4,096 later ones, and no longer than that", async () => {
    const { put } = await startRig();
    const first = await put("a", { producerId: "first" });
    await Promise.all(numbers(1, 4_095).map((n) => put("b", { producerId: n })));
    expect(await put("a", { producerId: "first" })).toEqual(first);
    await put("b", { producerId: "one more" });
    expect((await put("a", { producerId: "first" })).id).not.toBe(first.id);
  });
});
