import { describe, expect, test } from "vitest";
import { damage, FakeInbound, keysOf, Rig } from "./rig.ts";

const day = 86_400_000;

describe("the same bytes again", () => {
  test("are answered with the final reply, byte for byte, and not run again", async () => {
    const rig = await Rig.started();
    const bytes = await rig.send();
    rig.dispatcher.end("c1");
    await rig.settle();
    await rig.clock.advance(5_000);
    await rig.send(bytes);
    expect(rig.outbox.sent).toHaveLength(2);
    expect(rig.outbox.sent[1]).toEqual(rig.outbox.sent[0]);
    expect(rig.dispatcher.begun).toHaveLength(1);
    expect(rig.count("repeated")).toBe(1);
  });

  test("after a power cut too", async () => {
    const first = await Rig.started();
    const bytes = await first.send();
    first.dispatcher.end("c1");
    await first.settle();
    const rig = await first.afterPowerCut();
    await rig.send(bytes);
    expect(rig.outbox.sent).toEqual(first.outbox.sent);
    expect(rig.dispatcher.begun).toHaveLength(0);
  });

  test("while it runs: acknowledged, and told so if it asked for progress", async () => {
    const rig = await Rig.started();
    const quiet = await rig.send({ id: "quiet" });
    const loud = await rig.send({ id: "loud", command: "other.do", progress: true });
    await rig.send(quiet);
    await rig.send(loud);
    expect(rig.inbound.accepted).toHaveLength(4);
    expect(rig.statuses).toEqual(["loud accepted", "loud running", "loud running"]);
    expect(rig.dispatcher.begun).toHaveLength(2);
  });

  test("twice in one batch run once", async () => {
    const rig = await Rig.started();
    const bytes = rig.command();
    for (let i = 0; i < 10; i++) rig.inbound.push(bytes);
    await rig.settle();
    expect(rig.dispatcher.begun).toHaveLength(1);
    expect(rig.inbound.accepted).toHaveLength(10);
  });

  test("from two sources at once run once", async () => {
    const rig = await Rig.started();
    void rig.commands.consume(rig.inbound, new AbortController().signal);
    rig.dispatcher.answer = () => ({ status: "succeeded", result: 1 });
    const bytes = rig.command();
    for (let i = 0; i < 50; i++) rig.inbound.push(bytes);
    for (let i = 0; i < 5; i++) await rig.settle();
    expect(rig.dispatcher.begun).toHaveLength(1);
  });

  test("that are looked up while the end is being written run once", async () => {
    const rig = await Rig.started();
    const bytes = await rig.send();
    let answer = (): void => undefined;
    rig.store.afterRead = () => new Promise((resolve) => (answer = resolve));
    await rig.send(bytes);
    rig.dispatcher.end("c1");
    await rig.settle();
    answer();
    await rig.settle();
    expect(rig.dispatcher.begun).toHaveLength(1);
    expect(rig.statuses).toEqual(["c1 succeeded"]);
  });

  test("that are looked up from two sources before either is admitted run once", async () => {
    const rig = await Rig.started();
    rig.dispatcher.answer = () => ({ status: "succeeded", result: 1 });
    const second = new FakeInbound();
    void rig.commands.consume(second, new AbortController().signal);
    const answers: (() => void)[] = [];
    rig.store.afterRead = () => new Promise((resolve) => answers.push(resolve));
    const bytes = rig.command();
    rig.inbound.push(bytes);
    second.push(bytes);
    for (let i = 0; i < 4; i++) {
      await rig.settle();
      answers.shift()?.();
    }
    await rig.settle();
    expect(rig.dispatcher.begun).toHaveLength(1);
    expect(rig.inbound.accepted.length + second.accepted.length).toBe(2);
  });

  test("that arrive while the end is being written run once", async () => {
    const rig = await Rig.started();
    const bytes = await rig.send();
    for (let turns = 0; turns < 12; turns++) {
      if (turns === 2) rig.dispatcher.end("c1");
      rig.inbound.push(bytes);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await rig.settle();
    expect(rig.dispatcher.begun).toHaveLength(1);
  });
});

describe("other bytes under the same id", () => {
  test("are acknowledged, counted and not answered, while it runs and afterwards", async () => {
    const rig = await Rig.started();
    await rig.send();
    await rig.send({ params: { other: true } });
    rig.dispatcher.end("c1");
    await rig.settle();
    await rig.send({ params: { other: true } });
    await rig.send({ command: "exec.run" });
    await rig.send(Buffer.from(Buffer.from(rig.command()).toString().replace('"v":1', '"v":2')));
    expect(rig.count("id_conflict")).toBe(4);
    expect(rig.inbound.accepted).toHaveLength(5);
    expect(rig.statuses).toEqual(["c1 succeeded"]);
    expect(rig.dispatcher.begun).toHaveLength(1);
  });

  test("of another sender are another command", async () => {
    const rig = await Rig.started({ options: { concurrency: () => 2 } });
    await rig.send();
    await rig.send({ from: "GID_demo@@@console-2" });
    expect(rig.dispatcher.begun).toHaveLength(2);
    expect((await rig.commands.get("c1")).map(({ from }) => from)).toEqual([
      "GID_demo@@@console-2",
      "GID_demo@@@console-1",
    ]);
  });
});

describe("an entry that cannot be read", () => {
  test("is never run again and not answered", async () => {
    const rig = await Rig.started();
    const bytes = await rig.send();
    rig.dispatcher.end("c1");
    await rig.settle();
    const { seq } = (await rig.commands.get("c1"))[0] ?? { seq: 0 };
    expect(seq).toBe(1);
    await damage(rig.store, "journal", (await keysOf(rig.store, "journal"))[0] as string);
    await rig.send(bytes);
    expect(rig.count("journal_damaged")).toBe(1);
    expect(rig.inbound.accepted).toHaveLength(2);
    expect(rig.dispatcher.begun).toHaveLength(1);
    expect(rig.outbox.sent).toHaveLength(1);
    expect(await rig.commands.list({ limit: 10 })).toEqual({ items: [], next: null });
  });

  test("does not keep the agent from starting", async () => {
    const first = await Rig.started();
    const bytes = await first.send();
    await damage(first.store, "journal", (await keysOf(first.store, "journal"))[0] as string);
    const rig = await first.afterPowerCut();
    await rig.send(bytes);
    expect(rig.dispatcher.begun).toHaveLength(0);
    await rig.send({ id: "c2" });
    expect(rig.dispatcher.begun).toHaveLength(1);
  });
});

describe("retention", () => {
  const journal = { maxAgeMs: day, maxEntries: 10, maxBytes: 1_000_000 };
  const finished = async (rig: Rig, count: number, lifeMs: number, name = "c"): Promise<void> => {
    rig.dispatcher.answer = () => ({ status: "succeeded", result: 1 });
    const issuedAt = rig.clock.wallMs();
    for (let i = 0; i < count; i++) {
      await rig.send({ id: `${name}${i}`, issuedAt, expiresAt: issuedAt + lifeMs });
    }
  };

  test("forgets the old, by count, but none before it expires", async () => {
    const rig = await Rig.started({ options: { journal } });
    await finished(rig, 15, 3_600_000);
    await rig.clock.advance(600_000);
    expect(rig.commands.stats().recorded).toBe(15);
    await rig.clock.advance(3_600_000);
    expect(rig.commands.stats().recorded).toBe(10);
    const { items } = await rig.commands.list({ limit: 100 });
    expect(items.map(({ id }) => id)).toEqual(
      [14, 13, 12, 11, 10, 9, 8, 7, 6, 5].map((n) => `c${n}`),
    );
  });

  test("forgets the old, by age", async () => {
    const rig = await Rig.started({ options: { journal } });
    await finished(rig, 5, 1_000);
    await rig.clock.advance(day - 60_000);
    expect(rig.commands.stats().recorded).toBe(5);
    await rig.clock.advance(180_000);
    expect(rig.commands.stats().recorded).toBe(0);
    expect(await keysOf(rig.store, "journal")).toEqual([]);
  });

  test("what is forgotten has expired, so the same bytes are refused as expired", async () => {
    const rig = await Rig.started({ options: { journal } });
    const bytes = await rig.send();
    rig.dispatcher.end("c1");
    await rig.clock.advance(day + 180_000);
    await rig.send(bytes);
    expect(rig.replies.at(-1)).toMatchObject({ status: "expired" });
    expect(rig.dispatcher.begun).toHaveLength(1);
  });

  test("at twice its bound it takes nothing more until some expire", async () => {
    const rig = await Rig.started({ options: { journal } });
    await finished(rig, 22, 3_600_000);
    expect(rig.commands.stats().recorded).toBe(20);
    expect(rig.statuses.filter((text) => text.endsWith("busy"))).toEqual(["c20 busy", "c21 busy"]);
    await rig.clock.advance(3_700_000);
    expect(rig.commands.stats().recorded).toBe(10);
    await finished(rig, 1, 1_000, "d");
    expect(rig.statuses.at(-1)).toBe("d0 succeeded");
  });

  test("is bounded in bytes", async () => {
    const rig = await Rig.started({ options: { journal: { ...journal, maxBytes: 50_000 } } });
    rig.dispatcher.answer = () => ({ status: "succeeded", result: "x".repeat(20_000) });
    for (let i = 0; i < 8; i++) await rig.send({ id: `c${i}` });
    expect(rig.commands.stats().recorded).toBe(5);
    expect(rig.count("busy")).toBe(3);
  });

  test("keeps pace with a stream of commands that expire", async () => {
    const rig = await Rig.started({ options: { journal } });
    for (let i = 0; i < 100; i++) {
      await finished(rig, 1, 10, `n${i}-`);
      await rig.clock.advance(11);
    }
    expect(rig.commands.stats().recorded).toBeLessThan(13);
    expect(rig.count("busy")).toBe(0);
  });
});

describe("lists", () => {
  test("are newest first, in pages", async () => {
    const rig = await Rig.started();
    for (let i = 1; i <= 5; i++) await rig.send({ id: `c${i}` });
    rig.dispatcher.end("c1");
    await rig.settle();
    const first = await rig.commands.list({ limit: 3 });
    expect(first.items.map(({ id, state }) => `${id} ${state}`)).toEqual([
      "c5 queued",
      "c4 queued",
      "c3 queued",
    ]);
    const second = await rig.commands.list({ limit: 3, cursor: first.next ?? 0 });
    expect(second.items.map(({ id, state }) => `${id} ${state}`)).toEqual([
      "c2 running",
      "c1 final",
    ]);
    expect(second.next).toBeNull();
    expect(second.items[1]).toMatchObject({ command: "system.ping", status: "succeeded" });
  });

  test("an unknown id gives nothing", async () => {
    const rig = await Rig.started();
    await rig.send({ id: "c10" });
    expect(await rig.commands.get("c1")).toEqual([]);
    expect(await rig.commands.get("../x")).toEqual([]);
  });
});
