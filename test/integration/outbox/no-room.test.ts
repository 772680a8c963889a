/** I6: without room nothing new is taken, and the drain goes on. */
import { expect, test } from "vitest";
import { silentLog } from "../../../agent/core/log.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { countMissing } from "../../../agent/outbox/outbox.ts";
import { DatabaseStore, openLevel } from "../../../agent/store/store.ts";
import { StoreWatch } from "../../../agent/wiring/store-watch.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";
import { codeOf, lane, never, numbers, startRig } from "../../unit/outbox/rig.ts";

const MB = 1_048_576;
const random = new SystemRandom();

async function rig(options: { dropsOldest?: boolean } = {}) {
  const dir = await tempDir();
  const disk = { free: 1_000 * MB };
  const store = new DatabaseStore(
    {
      dir,
      ballastBytes: 2 * MB,
      space: { quotaBytes: 48 * MB, keepFreeBytes: 10 * MB, keepFreeInodes: 0 },
    },
    {
      ...{ openDatabase: openLevel, random, log: silentLog, countMissing },
      freeSpace: async () => ({ bytes: disk.free, inodes: undefined }),
    },
  );
  await store.start();
  const clock = new FakeClock();
  const whenFull = options.dropsOldest === true ? "drop-oldest" : "refuse";
  const lanes = { reply: lane({ priority: 1 }), telemetry: lane({ whenFull }) };
  const outboxRig = await startRig({ lanes, store, clock });
  const raised = new Set<string>();
  const watch = new StoreWatch({
    ...{ store, clock, log: silentLog, outbox: outboxRig.outbox },
    alarms: { raise: (name) => raised.add(name), clear: (name) => raised.delete(name) },
    onRecoverable: () => undefined,
  });
  const puts = (count: number, name = "telemetry") =>
    Promise.all(
      numbers(1, count).map((n) => {
        const payload = Buffer.concat([Buffer.from(n), random.bytes(4_000)]);
        return codeOf(outboxRig.outbox.put({ topic: "up/t", payload, lane: name }));
      }),
    );
  return { ...outboxRig, store, disk, watch, raised, puts };
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
