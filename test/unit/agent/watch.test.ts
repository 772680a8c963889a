import { expect, test } from "vitest";
import { Watch } from "../../../agent/wiring/watch.ts";

function rig() {
  const dropped: Record<string, number> = {};
  const raised = new Set<string>();
  const lane = { messages: 0, bytes: 0, oldestAgeMs: 0, dropped };
  const counters = { inFlight: 0, quarantined: 0, persisted: 0, elided: 0 };
  const watch = new Watch({
    outbox: { stats: () => ({ lanes: { telemetry: lane }, ...counters }) },
    alarms: { raise: (name) => raised.add(name), clear: (name) => raised.delete(name) },
  });
  return { dropped, raised, watch };
}

test("a lane that lets messages go is an alarm as long as it goes on doing so", () => {
  const { dropped, raised, watch } = rig();
  dropped["full"] = 3;
  watch.look();
  expect([...raised]).toEqual(["outbox.telemetry.dropping"]);
  dropped["ttl"] = 1;
  watch.look();
  expect([...raised]).toEqual(["outbox.telemetry.dropping"]);
  for (let i = 0; i < 119; i++) watch.look();
  expect([...raised]).toEqual(["outbox.telemetry.dropping"]);
  watch.look();
  expect([...raised]).toEqual([]);
});
