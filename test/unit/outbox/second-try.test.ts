/** Important messages are tried a second time at once; a disk that goes on failing gets its pause. */
import { expect, test } from "vitest";
import { MemoryStore } from "../../support/memory-store.ts";
import { follow, lane, never, startRig } from "./rig.ts";

const ENOUGH = 100;

test("two alarms that fell due at different moments do not ask a failing disk without a pause", async () => {
  const store = new MemoryStore();
  let asked = 0;
  const commit = store.commit.bind(store);
  // A loop without a pause would never let this test end.
  store.commit = (...args) => (++asked > ENOUGH ? new Promise(() => undefined) : commit(...args));
  const { outbox, put, clock } = await startRig({ lanes: { alarm: lane({ priority: 1 }) }, store });
  outbox.setOnline(true);
  store.failCommits(ENOUGH);
  store.beforeSync = () => clock.sleep(asked === 1 ? 100 : 0, never);
  const first = follow(put("first", { lane: "alarm" }));
  await clock.advance(20);
  const second = follow(put("second", { lane: "alarm" })); // Due while the first is being written.
  await clock.advance(1_000);
  expect(asked).toBeLessThanOrEqual(6);
  expect([first, second]).toEqual([{ outcome: "waiting" }, { outcome: "waiting" }]);

  store.failCommits(0);
  await clock.advance(1_000);
  expect([first, second]).toEqual([{ outcome: "disk" }, { outcome: "disk" }]);
});
