import { describe, expect, test } from "vitest";
import { FakeClock } from "../../support/fake-clock.ts";
import { Rig, type RigParts } from "./rig.ts";

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
const journal = { maxAgeMs: day, maxEntries: 10, maxBytes: 1_000_000 };

async function finished(rig: Rig, count: number, lifeMs: number, name: string): Promise<void> {
  rig.dispatcher.answer = () => ({ status: "succeeded", result: 1 });
  const issuedAt = rig.clock.wallMs();
  for (let i = 0; i < count; i++) {
    await rig.send({ id: `${name}${i}`, issuedAt, expiresAt: issuedAt + lifeMs });
  }
}

async function untrusted(parts: RigParts = {}): Promise<Rig> {
  const clock = parts.clock ?? new FakeClock({ wallMs: 0, trusted: false });
  return Rig.started({ ...parts, clock, options: { journal, ...parts.options } });
}

const busy = (rig: Rig): number => rig.count("busy");

describe("while the clock is not trusted", () => {
  test("what its sender has let expire is forgotten over the bounds, by time that is proven", async () => {
    const rig = await untrusted();
    await finished(rig, 21, hour, "a");
    expect([rig.commands.stats().recorded, busy(rig)]).toEqual([20, 1]);
    await rig.clock.advance(hour + 9 * minute);
    expect(rig.commands.stats().recorded).toBe(20);
    await rig.clock.advance(6 * minute);
    expect(rig.commands.stats().recorded).toBe(10);
    await finished(rig, 1, hour, "b");
    expect(rig.statuses.at(-1)).toBe("b0 succeeded");
  });

  test("a jump of the wall clock proves nothing", async () => {
    const rig = await untrusted();
    await finished(rig, 20, hour, "a");
    rig.clock.jumpWall(30 * day);
    await rig.clock.advance(10 * minute);
    expect(rig.commands.stats().recorded).toBe(20);
  });

  test("nothing is forgotten within the bounds, at any age", async () => {
    const rig = await untrusted();
    await finished(rig, 10, 1_000, "a");
    await rig.clock.advance(3 * day);
    expect(rig.commands.stats().recorded).toBe(10);
  });

  test("a restart of the process takes no proof away and gives none", async () => {
    const first = await untrusted();
    await finished(first, 20, hour, "a");
    await first.clock.advance(50 * minute);
    const rig = await untrusted({ store: first.store.afterKill(), clock: first.clock });
    await rig.clock.advance(10 * minute);
    expect(rig.commands.stats().recorded).toBe(20);
    await rig.clock.advance(15 * minute);
    expect(rig.commands.stats().recorded).toBe(10);
  });

  test("of an earlier boot only the time of this run is proven, whatever its clock says", async () => {
    const first = await untrusted();
    await finished(first, 14, hour, "a");
    const clock = new FakeClock({ wallMs: 0, monotonicMs: 40 * day, trusted: false });
    const options = { bootId: "boot-2" };
    const rig = await untrusted({ store: first.store.afterPowerCut(), clock, options });
    await rig.clock.advance(50 * minute);
    expect(rig.commands.stats().recorded).toBe(14);
    await rig.clock.advance(25 * minute);
    expect(rig.commands.stats().recorded).toBe(10);
  });

  test("a board that boots again and again makes room by count, down to a floor", async () => {
    let rig = await untrusted();
    for (let boot = 2; boot < 12; boot++) {
      await finished(rig, 4, 365 * day, `boot${boot}-`);
      const clock = new FakeClock({ wallMs: 0, trusted: false });
      const options = { bootId: `boot-${boot}` };
      expect(busy(rig)).toBe(0);
      rig = await untrusted({ store: rig.store.afterPowerCut(), clock, options });
    }
    await rig.clock.advance(minute);
    expect(rig.commands.stats().recorded).toBe(15);
    const { items } = await rig.commands.list({ limit: 4 });
    expect(items.map(({ id }) => id)).toEqual([3, 2, 1, 0].map((n) => `boot11-${n}`));
  });

  test.each([0, 1, 2])("a full journal is gone through as a whole every minute (%i)", async (i) => {
    const rig = await untrusted({ options: { journal: { ...journal, maxEntries: 300 } } });
    await finished(rig, 300, hour + i * minute, "short");
    await finished(rig, 300, 365 * day, "long");
    await rig.clock.advance(hour + (i + 11) * minute);
    expect(rig.commands.stats().recorded).toBeLessThan(600);
  });

  test("commands that have not ended are never forgotten", async () => {
    const first = await untrusted({ options: { deadlineMs: day } });
    for (let i = 0; i < 20; i++) await first.send({ id: `c${i}`, expiresAt: 1_000 });
    await first.clock.advance(2 * hour);
    expect(first.commands.stats().recorded).toBe(20);
  });

  test("what is forgotten is refused as expired once the clock is trusted", async () => {
    const clock = new FakeClock({ trusted: false });
    const rig = await untrusted({ clock });
    const bytes = await rig.send({ id: "old" });
    rig.dispatcher.end("old");
    await rig.settle();
    await finished(rig, 12, hour, "a");
    await rig.clock.advance(15 * minute);
    expect(await rig.commands.get("old")).toEqual([]);
    clock.setTrusted(true);
    await rig.send(bytes);
    expect(rig.replies.at(-1)).toMatchObject({ id: "old", status: "expired" });
  });
});
