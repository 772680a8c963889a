/** I3: at most `settleEvery` settlements are not on disk, whatever the disk is doing meanwhile. */
import { expect, test } from "vitest";
import type { MemoryStore } from "../../support/memory-store.ts";
import { MemoryVolatileLog } from "../../support/memory-volatile-log.ts";
import { numbers, startRig } from "./rig.ts";

const SETTLE_EVERY = 64;
const never = new Promise<void>(() => undefined);

async function withBacklog() {
  const volatile = new MemoryVolatileLog();
  const rig = await startRig({ settleEvery: SETTLE_EVERY, volatile });
  await Promise.all(numbers(1, 400).map((text) => rig.put(text)));
  rig.outbox.setOnline(true);
  return { ...rig, volatile };
}

type Rig = Pick<Awaited<ReturnType<typeof startRig<MemoryStore>>>, "take" | "outbox">;

/** Takes and settles until nothing more is given. */
async function settleAll({ take, outbox }: Rig): Promise<number> {
  for (let settled = 0; ; ) {
    const batch = await take(8);
    if (batch.count === 0) return settled;
    outbox.settle(batch.ids);
    settled += batch.count;
  }
}

test("those of a commit under way count until it is done", async () => {
  const rig = await withBacklog();
  rig.store.beforeSync = () => never;
  expect(await settleAll(rig)).toBe(SETTLE_EVERY);
});

test("those that a killed process noted count by message, not by record", async () => {
  const first = await withBacklog();
  first.store.beforeSync = () => never;
  const batch = await first.take(48);
  first.outbox.settle(batch.ids);
  const store = first.store.afterKill();
  store.beforeSync = () => never;
  const volatile = first.volatile.copy();
  const again = await startRig({ settleEvery: SETTLE_EVERY, volatile, store, seed: 2 });
  again.outbox.setOnline(true);
  // 48 are noted and not on disk: a power cut now would bring them and these again.
  expect(await settleAll(again)).toBe(SETTLE_EVERY - 48);
});
