/** I1: accepted means safe, at the service or on the disk, whichever is first. */
import { describe, expect, test } from "vitest";
import { codeOf, follow, never, startRig } from "./rig.ts";

describe("online", () => {
  test("an acknowledgement within the delay saves the write", async () => {
    const { outbox, store, clock, put, take } = await startRig({ persistDelayMs: 50 });
    outbox.setOnline(true);
    const waiting = put("a");
    const batch = await take();
    await clock.advance(49);
    outbox.settle(batch.ids);
    expect(await waiting).toMatchObject({ safe: "broker", seq: 1, id: `${outbox.epoch}-1` });
    await clock.advance(10_000);
    expect(store.commits).toBe(0);
    expect(outbox.stats()).toMatchObject({ elided: 1, persisted: 0, inFlight: 0 });
  });

  test("without one the disk accepts when the delay is over", async () => {
    const { outbox, store, clock, put, take } = await startRig({ persistDelayMs: 50 });
    outbox.setOnline(true);
    const put1 = follow(put("a"));
    const batch = await take();
    await clock.advance(49);
    expect(put1.outcome).toBe("waiting");
    await clock.advance(1);
    await clock.advance(0);
    expect(put1.outcome).toBe("disk");
    expect(store.syncs).toBe(1);

    outbox.settle(batch.ids);
    await clock.advance(2_000);
    expect(outbox.stats()).toMatchObject({ elided: 0, persisted: 1 });
    // The record is gone from the disk: a restart has nothing to send.
    const again = await startRig({ store: store.afterPowerCut() });
    expect(again.statsOf()).toMatchObject({ messages: 0, bytes: 0 });
  });

  test("a delay of 0 is the disk first, always", async () => {
    const { outbox, clock, put } = await startRig({ persistDelayMs: 0 });
    outbox.setOnline(true);
    const seen = follow(put("a"));
    await clock.advance(0);
    expect(seen.outcome).toBe("disk");
  });

  test("an acknowledgement during the write answers, and the record does not come back", async () => {
    const { outbox, store, clock, put, take } = await startRig();
    let release: () => void = () => undefined;
    store.beforeSync = () =>
      new Promise((resolve) => {
        release = resolve;
      });
    const waiting = put("a");
    const batch = await take();
    outbox.settle(batch.ids);
    expect((await waiting).safe).toBe("broker");
    store.beforeSync = () => Promise.resolve();
    release();
    await clock.advance(2_000);
    const again = await startRig({ store: store.afterPowerCut() });
    expect(again.statsOf().messages).toBe(0);
  });

  test("going offline ends the wait for the service", async () => {
    const { outbox, clock, put } = await startRig({ persistDelayMs: 30_000 });
    outbox.setOnline(true);
    const seen = follow(put("a"));
    await clock.advance(1_000);
    expect(seen.outcome).toBe("waiting");
    outbox.setOnline(false);
    await clock.advance(0);
    expect(seen.outcome).toBe("disk");
  });
});

describe("offline", () => {
  test("many puts at once share few commits", async () => {
    const { store, put } = await startRig();
    const receipts = await Promise.all(Array.from({ length: 2_048 }, (_, i) => put(String(i))));
    expect(new Set(receipts.map(({ id }) => id)).size).toBe(2_048);
    expect(receipts.every(({ safe }) => safe === "disk")).toBe(true);
    expect(store.commits).toBeLessThanOrEqual(3);
    const again = await startRig({ store: store.afterPowerCut() });
    expect(again.statsOf().messages).toBe(2_048);
  });

  test("a put that comes while settlements wait for their sync is not held up by them", async () => {
    const { outbox, clock, put, take } = await startRig();
    await put("a");
    const batch = await take();
    outbox.settle(batch.ids);
    await clock.advance(10); // Noted, and to be synced in a second.
    const seen = follow(put("b"));
    await clock.advance(0);
    expect(seen.outcome).toBe("disk");
  });

  test("nothing is accepted before it is synced", async () => {
    const { store, clock, put } = await startRig();
    let release: () => void = () => undefined;
    store.beforeSync = () =>
      new Promise((resolve) => {
        release = resolve;
      });
    const seen = follow(put("a"));
    await clock.advance(60_000);
    expect(seen.outcome).toBe("waiting");
    release();
    await clock.advance(0);
    expect(seen.outcome).toBe("disk");
  });
});

describe("a disk that takes no writes", () => {
  test("offline a put is refused, leaves nothing behind, and the next works when the disk does", async () => {
    const { store, put, clock, statsOf, drain } = await startRig();
    store.failCommits(Number.POSITIVE_INFINITY);
    expect(await codeOf(put("a"))).toBe("store_not_writable");
    expect(statsOf()).toMatchObject({ messages: 0, bytes: 0 });
    store.failCommits(0);
    const next = follow(put("b"));
    await clock.advance(500); // The pause after a failure.
    expect(next.outcome).toBe("disk");
    expect(await drain()).toEqual(["b"]);
  });

  test("online the service alone accepts, and what was in memory is written when the disk is back", async () => {
    const { outbox, store, clock, put, take, statsOf } = await startRig();
    outbox.setOnline(true);
    store.failCommits(Number.POSITIVE_INFINITY);
    const first = follow(put("a"));
    const second = follow(put("b"));
    const batch = await take();
    await clock.advance(5_000);
    expect([first.outcome, second.outcome]).toEqual(["waiting", "waiting"]);
    outbox.settle([{ epoch: outbox.epoch, from: 1, to: 1 }]);
    await clock.advance(0);
    expect([first.outcome, second.outcome]).toEqual(["broker", "waiting"]);
    store.failCommits(0);
    await clock.advance(500);
    expect(second.outcome).toBe("disk");
    outbox.settle(batch.ids);
    await clock.advance(2_000);
    expect(statsOf()).toMatchObject({ messages: 0, bytes: 0 });
  });

  test("when the link goes too, what waits is refused; what was sent may still arrive", async () => {
    const { outbox, store, clock, put, take, statsOf } = await startRig();
    outbox.setOnline(true);
    store.failCommits(Number.POSITIVE_INFINITY);
    const sent = follow(put("sent"));
    const batch = await take(1);
    const unsent = follow(put("unsent"));
    outbox.setOnline(false);
    await clock.advance(1_000);
    expect([sent.outcome, unsent.outcome]).toEqual(["store_not_writable", "store_not_writable"]);
    expect(statsOf().messages).toBe(1);
    expect((await take()).count).toBe(0);
    outbox.settle(batch.ids); // Acknowledged on the next connection.
    expect(statsOf()).toMatchObject({ messages: 0, bytes: 0 });
  });

  test("memory for what nobody has is bounded, and freed again", async () => {
    const { outbox, store, clock, put, take } = await startRig();
    outbox.setOnline(true);
    store.failCommits(Number.POSITIVE_INFINITY);
    const payload = Buffer.alloc(65_000);
    let accepted = 0;
    const refused: string[] = [];
    for (let i = 0; i < 600; i++) {
      put("", { payload }).then(
        () => accepted++,
        (error: { code: string }) => refused.push(error.code),
      );
    }
    const batch = await take();
    expect(batch.count).toBeGreaterThan(440);
    expect(refused.length).toBe(600 - batch.count);
    expect(new Set(refused)).toEqual(new Set(["too_many"]));
    outbox.settle(batch.ids);
    await clock.advance(0);
    expect(accepted).toBe(batch.count);
    const next = follow(put("", { payload }));
    const again = await take();
    expect(again.count).toBe(1);
    outbox.settle(again.ids);
    await clock.advance(0);
    expect(next.outcome).toBe("broker");
  });

  test("settlements that could not be noted are noted later", async () => {
    const { outbox, store, clock, put, take } = await startRig();
    await Promise.all([put("a"), put("b")]);
    const batch = await take();
    store.failCommits(3);
    outbox.settle(batch.ids);
    await clock.advance(5_000);
    const again = await startRig({ store: store.afterPowerCut() });
    expect(again.statsOf().messages).toBe(0);
  });
});

describe("stopping", () => {
  test("writes what waits for the service and notes what was settled", async () => {
    const { outbox, store, put, take } = await startRig({ persistDelayMs: 30_000 });
    await put("old");
    outbox.settle((await take()).ids);
    outbox.setOnline(true);
    const seen = follow(put("new"));
    await outbox.stop(never);
    expect(seen.outcome).toBe("disk");
    const again = await startRig({ store: store.afterPowerCut() });
    expect(await again.drain()).toEqual(["new"]);
  });

  test("refuses what comes later, and may be asked for twice", async () => {
    const { outbox, put, take } = await startRig();
    await outbox.stop(never);
    await outbox.stop(never);
    expect(await codeOf(put("a"))).toBe("stopped");
    expect(outbox.reserve("telemetry", 10)).toBeUndefined();
    expect((await take()).count).toBe(0);
  });

  test("a disk that hangs does not outlast the deadline, and nobody is told a lie", async () => {
    const { outbox, store, clock, put } = await startRig();
    store.beforeSync = () => new Promise(() => undefined);
    const writing = follow(put("writing"));
    await clock.advance(0);
    const queued = follow(put("queued"));
    const deadline = new AbortController();
    const stopped = outbox.stop(deadline.signal);
    deadline.abort();
    await stopped;
    await clock.advance(0);
    expect([writing.outcome, queued.outcome]).toEqual(["waiting", "stopped"]);
  });

  test("a disk that refuses ends the puts and the stop", async () => {
    const { outbox, store, clock, put } = await startRig({ persistDelayMs: 30_000 });
    outbox.setOnline(true);
    store.failCommits(Number.POSITIVE_INFINITY);
    const seen = follow(put("a"));
    await outbox.stop(never);
    await clock.advance(0);
    expect(seen.outcome).toBe("store_not_writable");
  });
});
