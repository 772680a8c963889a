/** Damage as long as a page of reading hides nothing that lies behind it. */
import { expect, test } from "vitest";
import { damage, damageAll, keysOf, Rig } from "./rig.ts";

async function admit(rig: Rig, count: number, expiresAt: (i: number) => number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const id = `c${String(i).padStart(4, "0")}`;
    rig.inbound.push(rig.command({ id, expiresAt: expiresAt(i) }));
    if (i % 100 === 99) await rig.settle();
  }
  await rig.settle();
}

const soon = (rig: Rig) => (): number => rig.clock.wallMs() + 60_000;

test("the order of admission is read on: what was unfinished ends, no number is given twice", async () => {
  const rig = await Rig.started({ options: { maxQueued: 5_000 }, capacityBytes: 1e9 });
  await admit(rig, 1_010, soon(rig));
  const places = await keysOf(rig.store, "journal_order");
  expect(places.length).toBe(1_010);
  for (const key of places.slice(0, 1_005)) await damage(rig.store, "journal_order", key);
  const next = await rig.afterPowerCut({ capacityBytes: 1e9 });
  expect(next.statuses).toEqual([5, 6, 7, 8, 9].map((i) => `c100${i} interrupted`));
  const { items } = await next.commands.list({ limit: 100 });
  expect(items.map(({ id }) => id)).toEqual(["c1009", "c1008", "c1007", "c1006", "c1005"]);
});

test("the look over all entries goes on", async () => {
  const rig = await Rig.started({ capacityBytes: 1e9 });
  await admit(rig, 40, soon(rig));
  await damageAll(rig.store, "journal_order");
  const entries = await keysOf(rig.store, "journal");
  for (const key of entries.slice(0, 35)) await damage(rig.store, "journal", key);
  const next = await rig.afterPowerCut({ capacityBytes: 1e9 });
  for (let i = 0; i < 5; i++) {
    await next.clock.advance(1_000);
    await next.settle();
  }
  expect(next.statuses).toEqual([35, 36, 37, 38, 39].map((i) => `c00${i} interrupted`));
});

test("pruning goes on behind old ones that must stay", async () => {
  const journal = { maxEntries: 300 };
  const rig = await Rig.started({ options: { journal }, capacityBytes: 1e9 });
  rig.dispatcher.answer = () => ({ status: "succeeded", result: null });
  const day = 86_400_000;
  await admit(rig, 400, (i) => rig.clock.wallMs() + (i < 300 ? day : 60_000));
  expect(rig.commands.stats().recorded).toBe(400);
  const [first = ""] = await keysOf(rig.store, "journal_order");
  await damage(rig.store, "journal_order", first);
  await rig.clock.advance(3_600_000);
  await rig.settle();
  expect(rig.commands.stats().recorded).toBe(300);
});
