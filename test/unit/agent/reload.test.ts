import { expect, test } from "vitest";
import { Secret } from "../../../agent/config/config.ts";
import { changedKeys } from "../../../agent/wiring/reload.ts";

const before = {
  log: { level: "info" },
  auth: { secret: new Secret("one") },
  plugins: { enabled: ["system"] },
  service: { reconnect: { min_ms: 500 } },
};

test("nothing changed, nothing to tell", () => {
  expect(changedKeys(before, structuredSame())).toEqual({ taken: [], waiting: [] });
});

test("what a running agent does not take over is named, a secret without its value", () => {
  const after = {
    ...before,
    log: { level: "debug" },
    auth: { secret: new Secret("two") },
    plugins: { enabled: ["system", "logs"] },
  };
  const changed = changedKeys(before, after);
  expect(changed).toEqual({ taken: ["log.level"], waiting: ["auth.secret", "plugins.enabled"] });
});

test("a key that came or went is a change", () => {
  const { service: _, ...without } = before;
  expect(changedKeys(before, without).waiting).toEqual(["service.reconnect.min_ms"]);
  expect(changedKeys(without, before).waiting).toEqual(["service.reconnect.min_ms"]);
});

function structuredSame() {
  return { ...before, auth: { secret: new Secret("one") }, plugins: { enabled: ["system"] } };
}
