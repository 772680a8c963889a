/** What the service answers by closing the connection is set aside, and everything else flows. */
import { describe, expect, test } from "vitest";
import { MemoryStore } from "../../support/memory-store.ts";
import { MemoryVolatileLog } from "../../support/memory-volatile-log.ts";
import { SeededRandom } from "../../support/seeded-random.ts";
import type { Received } from "../../support/sim-link.ts";
import { startService, textsOn } from "./quarantine-rig.ts";
import { lane, numbers } from "./rig.ts";

const bad = "other/t";
const good = "up/t";
const forbids = ({ topic }: Received): boolean => topic === bad;

describe("a forbidden topic", () => {
  test.each([
    ["acknowledges at once", true],
    ["acknowledges late", false],
  ])(
    "costs few connections at a service that %s, and the rest flows in order",
    async (_, prompt) => {
      const { put, service, delivered, until, rest, outbox } = await startService({
        forbids,
        prompt,
      });
      await Promise.all(
        numbers(1, 400).map((n) => put(n, { topic: Number(n) % 2 === 0 ? bad : good })),
      );
      await until(() => rest() === 0);
      expect(service.connections).toBeLessThanOrEqual(10);
      expect(textsOn(delivered, good)).toEqual(numbers(1, 400).filter((n) => Number(n) % 2 === 1));
      expect(textsOn(delivered, bad)).toEqual([]);
      expect(outbox.stats().quarantined).toBe(200);
      const { items, next } = outbox.quarantine.list(undefined, 1_000);
      expect(next).toBeNull();
      expect(items.map(({ topic, scope }) => `${topic} ${scope}`)).toEqual(
        items.map(() => `${bad} topic`),
      );
      expect(items.map(({ id }) => Number(id.split("-")[1]))).toEqual(
        numbers(1, 200).map((n) => Number(n) * 2),
      );
    },
  );

  test("further messages are parked untried; their puts are answered when they are on disk", async () => {
    const { put, service, delivered, until, outbox, clock } = await startService({ forbids });
    await put("first", { topic: bad });
    await until(() => outbox.stats().quarantined === 1);
    await clock.advance(100);
    const before = service.connections;
    const receipt = put("second", { topic: bad });
    await until(() => outbox.stats().quarantined === 2);
    expect((await receipt).safe).toBe("disk");
    const fine = put("fine");
    await until(() => delivered.length === 1);
    expect((await fine).safe).toBe("broker");
    expect(service.connections).toBe(before);
  });

  test("one is tried after a minute, then after two; when it goes through all do, in order", async () => {
    const { put, service, delivered, until, outbox, clock, rest } = await startService({ forbids });
    for (const n of numbers(1, 200)) void put(n, { topic: bad });
    await until(() => outbox.stats().quarantined === 200);
    await clock.advance(100);
    const found = service.connections;
    await clock.advance(50_000);
    expect(service.connections).toBe(found);
    await clock.advance(20_000);
    expect(service.connections).toBe(found + 1);
    await clock.advance(105_000);
    expect(service.connections).toBe(found + 1);
    service.forbids = () => false;
    void put("201", { topic: bad });
    await clock.advance(30_000);
    await until(() => outbox.stats().quarantined <= 1);
    void put("202", { topic: bad });
    await until(() => rest() === 0);
    // The second try was of the second message: the first is a case of its own until its own try.
    expect(textsOn(delivered, bad)).toEqual(numbers(2, 202));
    expect(service.connections).toBe(found + 1);
    const [first] = outbox.quarantine.list(undefined, 10).items;
    expect(first).toMatchObject({ scope: "message", topic: bad });
    await until(() => outbox.stats().quarantined === 0);
    expect(textsOn(delivered, bad).at(-1)).toBe("1");
    expect(outbox.quarantine.cases).toEqual([]);
  });

  test("a change asked for tries it at once, the oldest first", async () => {
    const { put, service, delivered, until, outbox } = await startService({ forbids });
    for (const n of numbers(1, 100)) void put(n, { topic: bad });
    await until(() => outbox.stats().quarantined === 100);
    service.forbids = () => false;
    expect(outbox.quarantine.retry()).toBe(100);
    await until(() => outbox.stats().quarantined === 0, 5_000);
    expect(textsOn(delivered, bad)).toEqual(numbers(1, 100));
  });

  test("a notice with code 5 proves it: one close for one alone", async () => {
    const { put, service, until, outbox } = await startService({ forbids, notice: 5 });
    await put("x", { topic: bad });
    await until(() => outbox.stats().quarantined === 1);
    await until(() => service.connections === 2);
  });

  test.each([1, 2, 3, 8, -1])("a notice with code %i never counts", async (notice) => {
    const { put, service, outbox, clock } = await startService({ forbids, notice });
    await put("x", { topic: bad });
    await clock.advance(5_000);
    expect(service.connections).toBeGreaterThan(100);
    expect(outbox.stats().quarantined).toBe(0);
  });

  test("a try that the connection does not survive for another reason proves nothing", async () => {
    const { put, service, until, outbox, clock } = await startService({
      forbids,
      onMessage: (message, close) => {
        if (service.connections > 7 && message.topic === bad) close("takeover");
      },
    });
    await put("x", { topic: bad });
    await until(() => outbox.stats().quarantined === 1);
    await clock.advance(70_000);
    expect(outbox.quarantine.list(undefined, 1).items[0]?.tries).toBe(0);
  });
});

test("one message of a topic that goes through is set aside alone", async () => {
  const isBad = ({ text }: Received): boolean => text === "bad";
  const { put, delivered, until, outbox, rest } = await startService({ forbids: isBad });
  for (const n of numbers(1, 100)) void put(n);
  await until(() => rest() === 0);
  void put("bad");
  for (const n of numbers(101, 200)) void put(n);
  await until(() => rest() === 0);
  expect(delivered.map(({ text }) => text)).toEqual(numbers(1, 200));
  const { items } = outbox.quarantine.list(undefined, 10);
  expect(items).toMatchObject([{ scope: "message", topic: good, bytes: 3 }]);
});

test("a second guilty message of a topic, with none through in between, makes it the topic", async () => {
  const { put, service, until, outbox, rest, delivered } = await startService({
    forbids: () => false,
  });
  await put("fine");
  await until(() => delivered.length === 1);
  service.forbids = () => true;
  for (const n of numbers(1, 10)) void put(n);
  await until(() => rest() === 0);
  const scopes = outbox.quarantine.list(undefined, 20).items.map(({ scope }) => scope);
  expect(scopes).toEqual(["message", ...numbers(1, 9).map(() => "topic")]);
});

test("a link that is reset at random after 30 % of the publishes for an hour: nothing quarantined", async () => {
  const random = new SeededRandom(2_026);
  const { put, clock, outbox, service, until, rest, delivered } = await startService({
    forbids: () => random.chance(0.3),
  });
  let sent = 0;
  for (let second = 0; second < 3_600; second++) {
    if (rest() < 100) for (let n = 0; n < 3; n++) void put(String(++sent), { topic: `up/${n}` });
    await clock.advance(1_000);
    if (outbox.stats().quarantined > 0) break;
  }
  expect(outbox.stats().quarantined).toBe(0);
  expect(service.connections).toBeGreaterThan(2_000);
  service.forbids = () => false;
  await until(() => rest() === 0);
  expect(delivered.length).toBe(sent);
}, 60_000);

describe("on disk", () => {
  test.each(["kill", "power"] as const)("what is parked survives a %s, in order", async (how) => {
    const store = new MemoryStore();
    const volatile = new MemoryVolatileLog();
    const first = await startService({ forbids }, { store, volatile });
    for (const n of numbers(1, 300)) {
      void first.put(n, { topic: Number(n) % 3 === 0 ? good : bad });
    }
    await first.until(() => first.outbox.stats().quarantined === 200);
    const left = how === "kill" ? store.afterKill() : store.afterPowerCut();
    if (how === "power") volatile.clear();

    const second = await startService(
      { forbids },
      { store: left, volatile, seed: 2, clock: first.clock },
    );
    expect(second.outbox.stats().quarantined).toBe(200);
    void second.put("301", { topic: bad });
    await second.until(() => second.outbox.stats().quarantined === 201 && second.rest() === 0);
    expect(second.service.connections).toBeLessThanOrEqual(1);
    second.service.forbids = () => false;
    second.outbox.quarantine.retry();
    await second.until(() => second.outbox.stats().quarantined === 0);
    const all = numbers(1, 300).filter((n) => Number(n) % 3 !== 0);
    expect(textsOn(second.delivered, bad)).toEqual([...all, "301"]);
  });

  test.each(["kill", "power"] as const)(
    "a %s at any commit loses nothing and quarantines nothing twice",
    async (how) => {
      for (let crashAt = 1; crashAt <= 25; crashAt++) {
        const store = new MemoryStore();
        const volatile = new MemoryVolatileLog();
        const first = await startService({ forbids }, { store, volatile, persistDelayMs: 0 });
        for (const n of numbers(1, 60)) {
          void first.put(n, { topic: Number(n) % 2 === 0 ? bad : good }).catch(() => undefined);
        }
        await first.until(() => store.commits >= 3);
        const base = store.commits;
        let left: MemoryStore | undefined;
        store.beforeSync = async () => {
          if (left || store.commits - base < crashAt) return;
          left = how === "kill" ? store.afterKill() : store.afterPowerCut();
          volatile.open(); // The first process notes nothing any more.
          if (how === "power") volatile.clear();
        };
        for (let step = 0; step < 200 && !left; step++) await first.clock.advance(50);
        const taken = new Set(first.delivered.map(({ text }) => text));
        const second = await startService(
          { forbids },
          { store: left ?? store.afterKill(), volatile, clock: first.clock, seed: 2 },
        );
        await second.until(() => second.rest() === 0);
        const { items } = second.outbox.quarantine.list(undefined, 1_000);
        expect(new Set(items.map(({ id }) => id)).size).toBe(30);
        expect(items.length).toBe(30);
        const all = new Set([...taken, ...second.delivered.map(({ text }) => text)]);
        expect(numbers(1, 60).filter((n) => Number(n) % 2 === 1 && !all.has(n))).toEqual([]);
      }
    },
  );

  test("what its lane has a copy of goes out once, also when it has left the quarantine", async () => {
    const first = await startService({ forbids });
    first.service.online = false;
    await Promise.all(numbers(1, 5).map((n) => first.put(n, { topic: bad })));
    first.service.online = true;
    await first.until(() => first.outbox.stats().quarantined === 5);
    // The deletions of the lane's records wait for the next commit of settlements.
    const left = first.store.afterPowerCut();

    const sent: string[] = [];
    const onMessage = ({ text }: { readonly text: string }): void => void sent.push(text);
    const second = await startService(
      { forbids: () => false, onMessage },
      { store: left, clock: first.clock, seed: 2 },
    );
    const { lanes, quarantined } = second.outbox.stats();
    expect([lanes["telemetry"]?.messages, quarantined]).toEqual([5, 5]);
    second.outbox.quarantine.retry();
    await second.until(() => second.outbox.stats().quarantined === 0 && second.rest() === 0);
    expect(sent.toSorted()).toEqual(numbers(1, 5));
  });

  test("a disk that takes nothing holds up neither the good ones nor, later, the parking", async () => {
    const { put, store, delivered, until, outbox, rest } = await startService({ forbids });
    const puts = numbers(1, 100).map((n) => put(n, { topic: Number(n) % 2 === 0 ? bad : good }));
    await Promise.all(puts);
    store.failCommits(1_000);
    await until(() => textsOn(delivered, good).length === 50);
    store.failCommits(0);
    await until(() => rest() === 0);
    expect(outbox.stats().quarantined).toBe(50);
    expect(outbox.quarantine.list(undefined, 100).items.length).toBe(50);
  });
});

describe("bounds", () => {
  test("10,000 messages; the oldest go, counted", async () => {
    const { put, until, outbox, rest, statsOf } = await startService({ forbids });
    for (const n of numbers(1, 10_500)) void put(n, { topic: bad });
    await until(() => rest() === 0);
    expect(outbox.stats().quarantined).toBe(10_000);
    expect(statsOf().dropped).toEqual({ quarantine: 500 });
    expect(outbox.quarantine.list(undefined, 1).items[0]?.id).toMatch(/-501$/);
  });

  test("what goes for a bound is reported as a gap, once, with its ends", async () => {
    const lanes = { telemetry: lane(), event: lane({ priority: 3 }) };
    const gaps = { topic: "up/gap", lane: "event" };
    const { put, until, outbox, rest, clock, delivered } = await startService(
      { forbids },
      { lanes, gaps },
    );
    for (const n of numbers(1, 10_100)) void put(n, { topic: bad });
    await until(() => rest() === 0);
    for (let look = 0; look < 6; look++) {
      await clock.advance(5_000);
      await Promise.all([outbox.tidy(), clock.advance(100)]);
    }
    const [gap, ...others] = textsOn(delivered, "up/gap").map((text) => JSON.parse(text));
    expect(others).toEqual([]);
    expect(gap).toMatchObject({
      ...{ lane: "telemetry", reason: "quarantine", count: 100, exact: true },
      ...{ from: { id: `${outbox.epoch}-1` }, to: { id: `${outbox.epoch}-100` } },
    });
  });

  test("16 MiB", async () => {
    const { outbox, until, rest, statsOf } = await startService({ forbids });
    const payload = Buffer.alloc(60_000, 7);
    for (let n = 0; n < 300; n++) void outbox.put({ topic: bad, payload, lane: "telemetry" });
    await until(() => rest() === 0);
    const most = Math.floor((16 * 1024 * 1024) / (60_000 + bad.length + 8));
    expect(outbox.stats().quarantined).toBe(most);
    expect(statsOf().dropped).toEqual({ quarantine: 300 - most });
  });

  test("30 days that can be proven; a jump of the wall clock ends nothing", async () => {
    const { put, clock, until, outbox, statsOf, service } = await startService({ forbids });
    await put("x", { topic: bad });
    await until(() => outbox.stats().quarantined === 1);
    clock.jumpWall(100 * 86_400_000);
    await clock.advance(29 * 86_400_000);
    expect(outbox.stats().quarantined).toBe(1);
    expect(service.connections).toBeLessThan(60); // Tried after 1, 2, 4 minutes, then every day.
    await clock.advance(86_400_000 + 3_600_000);
    expect(outbox.stats().quarantined).toBe(0);
    expect(statsOf().dropped).toEqual({ quarantine: 1 });
  });

  test("a full lane that lets its oldest go takes no released message twice", async () => {
    const lanes = { telemetry: lane({ maxMessages: 50, whenFull: "drop-oldest" }) };
    const { put, until, outbox, service, statsOf, rest } = await startService(
      { forbids },
      { lanes },
    );
    for (const n of numbers(1, 40)) void put(n, { topic: bad });
    await until(() => outbox.stats().quarantined === 40);
    service.online = false;
    service.forbids = () => false;
    outbox.quarantine.retry();
    for (const n of numbers(1, 200)) await put(n);
    service.online = true;
    await until(() => rest() === 0 && outbox.stats().quarantined === 0);
    expect(statsOf()).toMatchObject({ messages: 0, bytes: 0 });
  });
});

describe("what operators do", () => {
  test("drop takes one, or all, for good and counts them", async () => {
    const { put, until, outbox, statsOf, store } = await startService({ forbids });
    for (const n of numbers(1, 5)) void put(n, { topic: bad });
    await until(() => outbox.stats().quarantined === 5);
    const [first] = outbox.quarantine.list(undefined, 1).items;
    expect(await outbox.quarantine.drop(first?.id)).toBe(1);
    expect(await outbox.quarantine.drop(first?.id)).toBe(0);
    expect(outbox.stats().quarantined).toBe(4);
    expect(await outbox.quarantine.drop()).toBe(4);
    expect(outbox.stats().quarantined).toBe(0);
    expect(statsOf().dropped).toEqual({ quarantine: 5 });
    // The topic stays blocked: the next one is the one that is tried, after the pause.
    void put("6", { topic: bad });
    await until(() => outbox.stats().quarantined === 1);
    const after = await startService({ forbids }, { store: store.afterPowerCut(), seed: 2 });
    expect(after.outbox.stats().quarantined).toBe(1);
  });

  test("pages follow each other without a gap", async () => {
    const { put, until, outbox } = await startService({ forbids });
    for (const n of numbers(1, 25)) void put(n, { topic: bad });
    await until(() => outbox.stats().quarantined === 25);
    const ids: string[] = [];
    for (let cursor: string | undefined; ; ) {
      const { items, next } = outbox.quarantine.list(cursor, 10);
      ids.push(...items.map(({ id }) => id));
      if (next === null) break;
      cursor = next;
    }
    expect(new Set(ids).size).toBe(25);
    expect(ids.length).toBe(25);
  });

  test("retry names one message and means its topic; an unknown id is nothing", async () => {
    const { put, until, outbox, service, delivered } = await startService({ forbids });
    for (const n of numbers(1, 5)) void put(n, { topic: bad });
    await until(() => outbox.stats().quarantined === 5);
    service.forbids = () => false;
    expect(outbox.quarantine.retry("01JD0000000000000000000000-1")).toBe(0);
    const third = outbox.quarantine.list(undefined, 5).items[2]?.id;
    expect(outbox.quarantine.retry(third)).toBe(1);
    await until(() => outbox.stats().quarantined === 0, 5_000);
    expect(textsOn(delivered, bad)).toEqual(numbers(1, 5));
  });

  test("a stop in the middle of everything ends, and what was given back is there", async () => {
    const service = await startService({ forbids });
    for (const n of numbers(1, 50)) void service.put(n, { topic: bad });
    await service.until(() => service.outbox.stats().quarantined === 50);
    service.outbox.quarantine.retry();
    await service.clock.advance(30);
    await service.stop();
    const after = await startService({ forbids }, { store: service.store, seed: 2 });
    expect(after.outbox.stats().quarantined).toBe(50);
  });
});
