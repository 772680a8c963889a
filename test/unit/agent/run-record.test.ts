import { expect, test } from "vitest";
import { RunLog } from "../../../agent/wiring/run-record.ts";
import { MemoryStore } from "../../support/memory-store.ts";

test("a run learns how the one before it ended", async () => {
  let store = new MemoryStore();
  const run = (bootId: string) => new RunLog(store, bootId);
  const first = run("boot-1");
  expect(await first.begin()).toEqual({ restarts: 0, lastExit: null });
  await first.end();
  expect(await run("boot-1").begin()).toEqual({ restarts: 1, lastExit: "clean" });
  store = store.afterKill();
  expect(await run("boot-1").begin()).toEqual({ restarts: 2, lastExit: "killed" });
  store = store.afterPowerCut();
  expect(await run("boot-2").begin()).toEqual({ restarts: 3, lastExit: "power" });
});
