import { describe, expect, test } from "vitest";
import { HoldfastError } from "../../../agent/core/errors.ts";
import type { MemoryStore } from "../../support/memory-store.ts";
import { damageAll, keysOf, Rig } from "./rig.ts";

describe("recovery", () => {
  test("ends all that had not ended in one synced commit, before anything is read", async () => {
    const first = await Rig.started();
    for (let i = 0; i < 20; i++) await first.send({ id: `c${i}` });
    const rig = new Rig({ store: first.store.afterPowerCut(), clock: first.clock });
    await rig.commands.start(new AbortController().signal);
    expect(rig.store.syncs).toBe(1);
    expect(rig.statuses).toEqual(Array.from({ length: 20 }, (_, i) => `c${i} interrupted`));
    expect(rig.commands.stats()).toMatchObject({ queued: 0, running: 0, recorded: 20 });
    const again = await rig.afterPowerCut();
    expect(again.outbox.sent).toHaveLength(0);
    expect(await again.outbox.stored()).toHaveLength(20);
  });

  test("on a disk that fails goes on in the background; repetitions do not run", async () => {
    const first = await Rig.started();
    const bytes = await first.send();
    const rig = new Rig({ store: first.store.afterPowerCut(), clock: first.clock });
    rig.store.failCommits(3);
    await rig.start();
    await rig.send(bytes);
    expect(rig.dispatcher.begun).toHaveLength(0);
    await rig.clock.advance(60_000);
    expect(rig.statuses).toEqual(["c1 interrupted"]);
    expect(await rig.outbox.stored()).toHaveLength(1);
  });

  test("without room for the replies does not hold up the start", async () => {
    const first = await Rig.started();
    for (let i = 0; i < 5; i++) await first.send({ id: `c${i}` });
    const parts = { store: first.store.afterPowerCut(), clock: first.clock, capacityBytes: 10 };
    const rig = await Rig.started(parts);
    expect(rig.statuses).toEqual([]);
    rig.outbox.capacityBytes = 1_000_000;
    await rig.clock.advance(60_000);
    expect([...rig.statuses].sort()).toEqual([0, 1, 2, 3, 4].map((i) => `c${i} interrupted`));
  });

  test("an admission whose failure was reported but that is on disk ends like the others", async () => {
    const first = await Rig.started();
    const bytes = await first.send();
    // The next run finds it; the sender, who was told busy in such a case, repeats it.
    const rig = await first.afterPowerCut();
    await rig.send(bytes);
    expect(rig.statuses).toEqual(["c1 interrupted", "c1 interrupted"]);
    expect(rig.outbox.sent[0]).toEqual(rig.outbox.sent[1]);
  });
});

/** The next commit is written and reported as failed all the same. */
function lieOnce(store: MemoryStore): void {
  const commit = store.commit.bind(store);
  store.commit = async (...args) => {
    store.commit = commit;
    await commit(...args);
    throw new HoldfastError("store_not_writable");
  };
}

describe("an unfinished entry that memory does not know", () => {
  test("of this run was never begun: the repetition is admitted, and runs once", async () => {
    const rig = await Rig.started();
    lieOnce(rig.store);
    const bytes = await rig.send();
    expect([rig.statuses, rig.dispatcher.begun.length]).toEqual([["c1 busy"], 0]);
    await rig.send(bytes);
    await rig.send(bytes);
    rig.dispatcher.end("c1");
    await rig.settle();
    expect(rig.dispatcher.begun).toHaveLength(1);
    expect(rig.statuses).toEqual(["c1 busy", "c1 succeeded"]);
    expect(await keysOf(rig.store, "journal_order")).toHaveLength(1);
  });

  test("of an earlier run may have run: its repetition ends it, and never runs", async () => {
    const first = await Rig.started();
    const bytes = await first.send();
    const store = first.store.afterKill();
    await damageAll(store, "journal_order");
    const rig = new Rig({ store, clock: first.clock });
    rig.inbound.push(bytes);
    rig.inbound.push(bytes);
    await rig.start();
    await rig.settle();
    expect(rig.dispatcher.begun).toEqual([]);
    expect(new Set(rig.statuses)).toEqual(new Set(["c1 interrupted"]));
    expect(new Set(rig.outbox.sent.map(({ text }) => text)).size).toBe(1);
    expect(rig.commands.stats()).toMatchObject({ recorded: 1, finished: 1, queued: 0 });
    expect(rig.inbound.accepted).toHaveLength(2);
  });

  test("and other bytes under its id are a conflict", async () => {
    const first = await Rig.started();
    await first.send();
    const store = first.store.afterKill();
    await damageAll(store, "journal_order");
    const rig = await Rig.started({ store, clock: first.clock });
    await rig.send({ params: { other: true } });
    expect([rig.count("id_conflict"), rig.dispatcher.begun.length]).toEqual([1, 0]);
  });

  test("is found after the start without a repetition, and listed again", async () => {
    const first = await Rig.started();
    for (let i = 0; i < 100; i++) await first.send({ id: `c${i}` });
    const store = first.store.afterKill();
    await damageAll(store, "journal_order");
    const rig = await Rig.started({ store, clock: first.clock });
    await rig.clock.advance(10_000);
    expect(rig.commands.stats()).toMatchObject({ recorded: 100, finished: 100 });
    expect(new Set(rig.statuses).size).toBe(100);
    expect((await rig.commands.list({ limit: 1_000 })).items).toHaveLength(100);
  });

  test("on a disk that fails is ended in the background, and not run in between", async () => {
    const first = await Rig.started();
    const bytes = await first.send();
    const store = first.store.afterKill();
    await damageAll(store, "journal_order");
    const rig = new Rig({ store, clock: first.clock });
    store.failCommits(3);
    rig.inbound.push(bytes);
    await rig.start();
    await rig.send(bytes);
    expect([rig.statuses, rig.dispatcher.begun.length]).toEqual([[], 0]);
    await rig.clock.advance(60_000);
    expect(rig.statuses).toEqual(["c1 interrupted"]);
  });

  test("that ends in the background while it is looked over ends once", async () => {
    const first = await Rig.started();
    await first.send();
    const rig = new Rig({ store: first.store.afterKill(), clock: first.clock });
    rig.store.failCommits(1); // The start's; the second one is made in the background.
    let written = (): void => undefined;
    rig.store.beforeSync = () => new Promise((resolve) => (written = resolve));
    const starting = rig.start();
    await rig.settle();
    written();
    await starting;
    await rig.settle();
    let answer = (): void => undefined;
    rig.store.afterRead = () => new Promise((resolve) => (answer = resolve));
    await rig.clock.advance(50); // The look over begins, and asks the disk.
    rig.store.beforeSync = () => Promise.resolve();
    written();
    await rig.settle();
    for (let i = 0; i < 5; i++) {
      answer();
      await rig.settle();
    }
    expect(rig.statuses).toEqual(["c1 interrupted"]);
  });
});

describe("an ended entry whose place in the order is damaged", () => {
  test("is answered, and gets a place again, also when a new command took its number", async () => {
    const first = await Rig.started();
    first.dispatcher.answer = () => ({ status: "succeeded", result: 1 });
    const bytes = await first.send({ id: "old" });
    const store = first.store.afterKill();
    await damageAll(store, "journal_order");
    const rig = new Rig({ store, clock: first.clock });
    rig.dispatcher.answer = () => ({ status: "succeeded", result: 2 });
    rig.inbound.push(rig.command({ id: "new" }));
    await rig.start();
    await rig.clock.advance(10_000);
    await rig.send(bytes);
    expect(rig.dispatcher.begun.map(({ id }) => id)).toEqual(["new"]);
    const { items } = await rig.commands.list({ limit: 10 });
    expect(items.map(({ id }) => id).sort()).toEqual(["new", "old"]);
    expect(rig.commands.stats().recorded).toBe(2);
  });
});
