/** I6: without room nothing new is taken, and the drain goes on. */
import { rm } from "node:fs/promises";
import { expect, test } from "vitest";
import { silentLog } from "../../../agent/core/log.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { countMissing } from "../../../agent/outbox/outbox.ts";
import { DatabaseStore, openLevel } from "../../../agent/store/store.ts";
import { StoreWatch } from "../../../agent/wiring/store-watch.ts";
import { copyLiving } from "../../support/copy-living.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";
import { codeOf, lane, never, numbers, startRig, texts } from "../../unit/outbox/rig.ts";

const MB = 1_048_576;
const random = new SystemRandom();

async function rig(options: { dropsOldest?: boolean; quotaMb?: number } = {}) {
  const dir = await tempDir();
  const disk = { free: 1_000 * MB };
  const store = new DatabaseStore(
    {
      dir,
      ballastBytes: 2 * MB,
      space: {
        quotaBytes: (options.quotaMb ?? 48) * MB,
        keepFreeBytes: 10 * MB,
        keepFreeInodes: 0,
      },
    },
    {
      ...{ openDatabase: openLevel, random, log: silentLog, countMissing },
      freeSpace: async () => ({ bytes: disk.free, inodes: undefined }),
    },
  );
  await store.start();
  const clock = new FakeClock();
  const whenFull = options.dropsOldest === true ? "drop-oldest" : "refuse";
  const lanes = {
    reply: lane({ priority: 1, maxMessages: 1_000 }),
    alarm: lane({ priority: 2 }),
    telemetry: lane({ whenFull }),
  };
  const outboxRig = await startRig({ lanes, store, clock });
  const raised = new Set<string>();
  const watch = new StoreWatch({
    ...{ store, clock, log: silentLog, outbox: outboxRig.outbox },
    alarms: { raise: (name) => raised.add(name), clear: (name) => raised.delete(name) },
    onRecoverable: () => undefined,
  });
  const puts = (count: number, name = "telemetry", bytes = 4_000) =>
    Promise.all(
      numbers(1, count).map((n) => {
        const payload = Buffer.concat([Buffer.from(n), random.bytes(bytes)]);
        return codeOf(outboxRig.outbox.put({ topic: "up/t", payload, lane: name }));
      }),
    );
  return { ...outboxRig, dir, store, disk, watch, raised, puts };
}

test("at the floor puts are refused offline, taken online, and the backlog drains", async () => {
  const { store, outbox, disk, watch, raised, puts, put, clock } = await rig();
  expect(new Set(await puts(500))).toEqual(new Set(["accepted"]));
  disk.free = 5 * MB;
  await watch.look();
  expect([...raised]).toEqual(["store.no_room"]);
  expect(new Set(await puts(10))).toEqual(new Set(["store_not_writable"]));

  outbox.setOnline(true);
  const before = await store.size();
  for (let taken = 0; taken < 500; ) {
    const batch = await outbox.take({ messages: 500, bytes: 1e9 }, never);
    outbox.settle(batch.ids);
    taken += batch.count;
  }
  const online = put("online");
  await clock.advance(600);
  const next = await outbox.take({ messages: 5, bytes: 1e9 }, never);
  outbox.settle(next.ids);
  expect((await online).safe).toBe("broker");
  await clock.advance(2_000);
  await waitFor(async () => {
    await clock.advance(5_000);
    await watch.look();
    return (await store.size()) < before / 20;
  });
  disk.free = 1_000 * MB;
  await watch.look();
  expect([...raised]).toEqual([]);
  outbox.setOnline(false);
  expect(await puts(1)).toEqual(["accepted"]);
  await outbox.stop(never);
  await store.stop();
});

test("on a disk that others filled messages go only where that brings the floor back", async () => {
  const { store, outbox, disk, watch, puts, statsOf, clock } = await rig({ dropsOldest: true });
  await puts(500);
  disk.free = 5 * MB;
  await watch.look();
  await watch.look();
  expect(statsOf("telemetry")).toMatchObject({ messages: 500, dropped: {} });
  expect(new Set(await puts(10))).toEqual(new Set(["store_not_writable"]));
  disk.free = 1_000 * MB;
  await watch.look();
  await clock.advance(1_000);
  await puts(3_000);
  disk.free = 5 * MB;
  await watch.look();
  await watch.look();
  expect(statsOf("telemetry").dropped["quota"]).toBeGreaterThan(2_000);
  await outbox.stop(never);
  await store.stop();
});

test("near the quota lanes that may drop give way, and the others stay", async () => {
  const { store, outbox, watch, puts, statsOf, clock } = await rig({ dropsOldest: true });
  expect(new Set(await puts(500, "reply"))).toEqual(new Set(["accepted"]));
  for (let i = 0; i < 30; i++) {
    await puts(500);
    await clock.advance(30_000);
    await watch.look();
    await clock.advance(2_000);
    expect(store.room?.usedBytes).toBeLessThanOrEqual(48 * MB);
  }
  expect(statsOf("telemetry").dropped["quota"]).toBeGreaterThan(1_000);
  expect(statsOf("reply")).toMatchObject({ messages: 500, dropped: {} });
  // It goes on taking: the last ones are there.
  expect(statsOf("telemetry").messages).toBeGreaterThan(3_000);
  await outbox.stop(never);
  await store.stop();
});

test.each([
  ["refuse", false],
  ["drop their oldest", true],
])("a quota full of lanes that %s keeps no alarm and no reply from the disk", async (_, drops) => {
  const { dir, store, outbox, watch, puts, put, clock, statsOf } = await rig({
    dropsOldest: drops,
    quotaMb: 36,
  });
  for (let i = 0; i < 80 && store.shortFrom > 4; i++) {
    await puts(200);
    await store.look();
  }
  expect(store.shortFrom).toBeLessThanOrEqual(4);
  const outcomes: Record<string, number> = { accepted: 0, store_not_writable: 0 };
  for (let i = 0; i < 20; i++) {
    if (drops) await watch.look();
    for (const code of await puts(500, "telemetry", 400))
      outcomes[code] = (outcomes[code] ?? 0) + 1;
    await clock.advance(30_000);
  }
  expect((outcomes["accepted"] ?? 0) + (outcomes["store_not_writable"] ?? 0)).toBe(10_000);
  if (drops) expect(statsOf("telemetry").dropped["quota"]).toBeGreaterThan(1_000);
  else expect(outcomes["store_not_writable"]).toBe(10_000);
  const telemetry = statsOf("telemetry");

  expect((await put("fire", { lane: "alarm", topic: "up/alarm" })).safe).toBe("disk");
  for (let i = 1; i <= 100; i++) {
    const reservation = outbox.reserve("reply", 4_096);
    expect(reservation).toBeDefined();
    const payload = Buffer.from(`reply ${i}`.padEnd(3_000));
    const staged = outbox.stage({ topic: "p2p/x", payload, lane: "reply" }, reservation);
    await store.commit(staged.writes, { sync: true });
    staged.committed();
  }
  expect(statsOf("telemetry").messages).toBe(telemetry.messages);
  const room = await store.look();
  expect(room?.usedBytes).toBeLessThanOrEqual(36 * MB);

  // As a kill leaves it: the next process finds them, and sends them first.
  const left = `${dir}.left`;
  await copyLiving(dir, left);
  const deps = { openDatabase: openLevel, random, log: silentLog, countMissing };
  const again = new DatabaseStore({ dir: left }, deps);
  await again.start();
  const next = await startRig({
    lanes: { reply: lane({ priority: 1 }), alarm: lane({ priority: 2 }), telemetry: lane() },
    store: again,
    seed: 2,
  });
  const first: string[] = [];
  while (first.length < 101) {
    const messages = 101 - first.length;
    first.push(...texts(await next.outbox.take({ messages, bytes: 1e9 }, never)));
  }
  expect(first.map((text) => text.trim())).toEqual([
    ...numbers(1, 100).map((n) => `reply ${n}`),
    "fire",
  ]);
  expect(next.statsOf("telemetry").messages).toBe(telemetry.messages);
  await next.outbox.stop(never);
  await again.stop();
  await rm(left, { recursive: true });
  await outbox.stop(never);
  await store.stop();
});
