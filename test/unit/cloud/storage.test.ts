/** What waits, as the storage keeps it: bounds, ages, and what a damaged disk costs. */
import { describe, expect, it, onTestFinished } from "vitest";
import { silentLog } from "../../../agent/core/log.ts";
import {
  CloudStorage,
  type StorageDeps,
  type StorageOptions,
} from "../../../cloud/storage/storage.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { MemoryStore } from "../../support/memory-store.ts";
import { waitFor } from "../../support/wait-for.ts";

/** A third of the retention of these tests, as a day is of the sheet's three. */
const DAY_MS = 3_600_000;
const device = "GID_demo@@@gw-01";

async function open(
  store: MemoryStore,
  clock = new FakeClock(),
  options: Partial<StorageOptions> = {},
  deps: Partial<StorageDeps> = {},
) {
  const storage = new CloudStorage(
    { offlinePerInstance: 1_000_000, retentionMs: 3 * DAY_MS, unknownTargets: 100_000, ...options },
    { store, clock, log: silentLog, ...deps },
  );
  const life = new AbortController();
  onTestFinished(() => life.abort());
  await storage.start(life.signal);
  const keep = (clientId: string, text: string): Promise<number> =>
    new Promise((resolve, reject) => {
      const payload = Buffer.from(text);
      const message = {
        clientId,
        topic: "GW_DOWN/a",
        payload,
        direct: true,
        bornAt: clock.wallMs(),
      };
      const seq = storage.keep(message, (error) => (error ? reject(error) : resolve(seq)));
    });
  const stop = async (): Promise<void> => {
    life.abort();
    await storage.stop();
  };
  return { storage, keep, stop };
}

describe("retention", () => {
  it("is not moved by a wall clock that jumps, in either direction", async () => {
    const clock = new FakeClock();
    const { storage, keep } = await open(new MemoryStore(), clock);
    await keep(device, "a");
    clock.jumpWall(400 * DAY_MS);
    await clock.advance(DAY_MS);
    clock.jumpWall(-800 * DAY_MS);
    await clock.advance(2 * DAY_MS - 60_001);
    expect(storage.stats).toMatchObject({ waiting: 1, expired: 0 });
    await clock.advance(120_000);
    await waitFor(() => storage.stats.waiting === 0);
    expect(storage.stats.expired).toBe(1);
  });

  it.each([
    ["a stop counts as the clock says", 0.5 * DAY_MS, true, 2.4 * DAY_MS, 2.6 * DAY_MS],
    ["a stop of years counts as a day", 800 * DAY_MS, true, 1.9 * DAY_MS, 2.1 * DAY_MS],
    ["a stop into the past counts as none", -5 * DAY_MS, true, 2.9 * DAY_MS, 3.1 * DAY_MS],
    ["a stop by a clock that nobody vouched for too", DAY_MS, false, 2.9 * DAY_MS, 3.1 * DAY_MS],
  ])("%s", async (_, stopMs, trusted, stillThereMs, goneMs) => {
    const store = new MemoryStore();
    const before = await open(store);
    await before.keep(device, "a");
    await before.stop();
    const clock = new FakeClock({ wallMs: new FakeClock().wallMs() + stopMs, trusted });
    const { storage } = await open(store.afterKill(), clock);
    await clock.advance(stillThereMs);
    expect(storage.stats.waiting).toBe(1);
    await clock.advance(goneMs - stillThereMs);
    await waitFor(() => storage.stats.waiting === 0);
  });

  it("goes on over any number of kills, a minute lost at each", async () => {
    let store = new MemoryStore();
    await (await open(store)).keep(device, "a");
    let runs = 0;
    for (; runs < 50; runs++) {
      const clock = new FakeClock({ trusted: false });
      store = store.afterKill();
      const { storage } = await open(store, clock);
      await clock.advance(0.1 * DAY_MS);
      if (storage.stats.waiting === 0) break;
    }
    expect(runs).toBe(29); // The thirtieth run of a tenth of a day.
  });
});

describe("clients without a session", () => {
  it("have a bounded number of mailboxes: the oldest goes with what is in it", async () => {
    const { storage, keep } = await open(new MemoryStore(), undefined, { unknownTargets: 3 });
    const session = (): Promise<void> =>
      new Promise((resolve) => storage.putSession("known", { subscriptions: {} }, () => resolve()));
    await session();
    await keep("known", "stays");
    await keep("made-up-0", "a");
    await keep("made-up-0", "b");
    for (let i = 1; i <= 3; i++) await keep(`made-up-${i}`, "c");
    expect(storage.mailbox("made-up-0")).toBeUndefined();
    expect(storage.stats).toMatchObject({ waiting: 4, removedForLimit: 2 });
    await keep("made-up-4", "c");
    expect(storage.mailbox("made-up-1")).toBeUndefined();
    expect(storage.mailbox("known")?.size).toBe(1);
    await new Promise<void>((resolve) => storage.dropSession("known", () => resolve()));
    for (let i = 5; i <= 7; i++) await keep(`made-up-${i}`, "c");
    expect(storage.mailbox("known")).toBeUndefined();
  });

  it("are bounded after a restart too", async () => {
    const store = new MemoryStore();
    const before = await open(store);
    for (let i = 0; i < 10; i++) await before.keep(`made-up-${i}`, "a");
    await before.stop();
    const { storage } = await open(store.afterKill(), undefined, { unknownTargets: 4 });
    expect(storage.stats.waiting).toBe(4);
    expect(storage.mailbox("made-up-9")?.size).toBe(1);
  });
});

describe("a start", () => {
  it("reads no payload", async () => {
    const store = new MemoryStore();
    const before = await open(store);
    for (let i = 0; i < 50; i++) await before.keep(device, "x".repeat(1_000));
    await before.stop();
    const again = store.afterKill();
    const { storage } = await open(again);
    expect(storage.stats.waiting).toBe(50);
    // One small record for each message, and the age.
    expect(again.reads).toBeLessThanOrEqual(52);
  });

  it.each([
    ["of the older form, without the small records", () => true],
    ["with a damaged small record", (key: string) => key.endsWith("2")],
  ])("on a store %s finds everything", async (what, match) => {
    const store = new MemoryStore();
    const before = await open(store);
    for (const text of ["a", "b", "c"]) await before.keep(device, text);
    await before.stop();
    const broken = store.afterKill();
    if (what.includes("older")) {
      broken.lose("cloud_waiting", match);
      broken.lose("cloud_state", match);
    } else broken.damage("cloud_waiting", match);
    const { storage, keep, stop } = await open(broken);
    expect(storage.mailbox(device)?.take(9, 0)).toHaveLength(3);
    expect(await keep(device, "d")).toBe(4);
    await stop();
    expect((await open(broken.afterKill())).storage.stats.waiting).toBe(4);
  });

  it("after a repair of the store finds what lost its small record, and forgets what is lost", async () => {
    const store = new MemoryStore();
    const before = await open(store);
    for (const text of ["a", "b", "c", "d"]) await before.keep(device, text);
    await before.stop();
    const repaired = store.afterKill();
    repaired.lose("cloud_waiting", (key) => key.endsWith("1"));
    repaired.damage("cloud_messages", (key) => key.endsWith("2"));
    const { storage } = await open(repaired, undefined, {}, { wasRepaired: () => true });
    const taken = storage
      .mailbox(device)
      ?.take(9, 0)
      .map(({ seq }) => seq);
    expect(taken).toEqual([1, 3, 4]);
  });
});

it("a million waiting messages of one client cost a number each, of many little more", async () => {
  const { Mailbox } = await import("../../../cloud/storage/mailbox.ts");
  const collect = globalThis.gc;
  if (!collect) {
    const { setFlagsFromString } = await import("node:v8");
    setFlagsFromString("--expose-gc");
  }
  const { runInNewContext } = await import("node:vm");
  const gc = collect ?? (runInNewContext("gc") as () => void);
  const bytesOf = (make: () => unknown): number => {
    gc();
    const before = process.memoryUsage().heapUsed;
    const kept = make();
    gc();
    const bytes = process.memoryUsage().heapUsed - before;
    expect(kept).toBeDefined();
    return bytes;
  };
  const count = 100_000;
  const one = bytesOf(() => {
    const mailbox = new Mailbox();
    for (let seq = 1; seq <= count; seq++) mailbox.add(seq, true);
    return mailbox;
  });
  const many = bytesOf(() => {
    const mailboxes = new Map<string, InstanceType<typeof Mailbox>>();
    for (let seq = 1; seq <= count; seq++) {
      const mailbox = new Mailbox();
      mailbox.add(seq, true);
      mailboxes.set(`GID_demo@@@made-up-${seq}`, mailbox);
    }
    return mailboxes;
  });
  process.stdout.write(`bytes a waiting message: ${one / count} and ${many / count}\n`);
  expect(one / count).toBeLessThan(16);
  expect(many / count).toBeLessThan(250);
});
