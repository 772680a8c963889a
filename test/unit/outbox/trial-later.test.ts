/** A try of what is in quarantine waits until nothing is suspected, and then it comes. */
import { expect, test } from "vitest";
import { startService, textsOn } from "./quarantine-rig.ts";
import { numbers } from "./rig.ts";

test("a topic is tried although nothing is sent after the last suspect has landed", async () => {
  let breaks = 1;
  const its = await startService({
    window: 16,
    prompt: false,
    forbids: ({ topic }) => topic === "up/bad",
    onMessage: ({ text }, close) => {
      // The link's doing: what was on the wire is suspected until it lands.
      if (text === "8" && breaks-- > 0) close("peer_closed");
    },
  });
  const { put, until, rest, outbox, clock, service, delivered } = its;
  await put("refused", { topic: "up/bad" });
  await until(() => outbox.stats().quarantined === 1 && rest() === 0);
  await Promise.all(numbers(1, 8).map((text) => put(text, { topic: "up/good" })));
  await until(() => textsOn(delivered, "up/good").length === 8 && rest() === 0);
  await clock.advance(5_000);

  service.forbids = () => false;
  outbox.quarantine.retry();
  await until(() => textsOn(delivered, "up/bad").length === 1, 10_000);
  expect(outbox.stats().quarantined).toBe(0);
  await its.stop();
});
