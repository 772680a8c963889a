/** What leaves the quarantine is let go or sent, never both: a gap tells of nothing that arrives. */
import { expect, test } from "vitest";
import { MemoryStore } from "../../support/memory-store.ts";
import { startService, textsOn } from "./quarantine-rig.ts";

test("a message that an operator drops while it is read back is not sent", async () => {
  const store = new MemoryStore();
  const its = await startService({ forbids: ({ topic }) => topic === "up/bad" }, { store });
  const { put, until, rest, outbox, clock, service, delivered } = its;
  await put("dropped", { topic: "up/bad" });
  await until(() => outbox.stats().quarantined === 1 && rest() === 0);

  service.forbids = () => false;
  let goOn = (): void => undefined;
  store.afterRead = () =>
    new Promise((resolve) => {
      goOn = resolve;
    });
  outbox.quarantine.retry();
  await clock.advance(100);
  expect(await outbox.quarantine.drop()).toBe(1);
  goOn();
  store.afterRead = () => Promise.resolve();
  await clock.advance(5_000);
  expect(textsOn(delivered, "up/bad")).toEqual([]);
  expect(outbox.stats().quarantined).toBe(0);
  await its.stop();
});
