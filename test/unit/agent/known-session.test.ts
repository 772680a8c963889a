import { describe, expect, test } from "vitest";
import { silentLog } from "../../../agent/core/log.ts";
import { KnownSession } from "../../../agent/wiring/known-session.ts";
import { MemoryStore } from "../../support/memory-store.ts";
import { LEAST, load } from "../config/agent.ts";

const CLEAN = `${LEAST}[service]\nclean_session = true\n`;

function known(store: MemoryStore, toml: string): KnownSession {
  return new KnownSession(load(toml).config, { store, log: silentLog });
}

async function connected(store: MemoryStore, toml: string): Promise<void> {
  const session = known(store, toml);
  await session.check(true);
  await session.note();
}

describe("clean_session", () => {
  test("may be anything before the first connection, and afterwards stays", async () => {
    const store = new MemoryStore();
    await known(store, LEAST).check(false);
    await known(store, CLEAN).check(false);
    await connected(store, LEAST);
    await known(store, LEAST).check(false);
    await expect(known(store, CLEAN).check(false)).rejects.toMatchObject({
      code: "config_invalid",
      message: expect.stringContaining("--accept-session-change"),
    });
  });

  test("changes when that is meant, from the next connection on", async () => {
    const store = new MemoryStore();
    await connected(store, LEAST);
    await known(store, CLEAN).check(true);
    await known(store, LEAST).check(false); // Nothing has connected with the other one yet.
    await connected(store, CLEAN);
    await known(store, CLEAN).check(false);
    await expect(known(store, LEAST).check(false)).rejects.toMatchObject({
      code: "config_invalid",
    });
  });

  test.each([
    ["client id", CLEAN.replace(/client_id = "[^"]*"/, 'client_id = "GID_demo@@@other"')],
    ["instance", CLEAN.replace("[service]", '[service]\ninstance_id = "mqtt-other"')],
  ])("of another %s is another session", async (_what, toml) => {
    const store = new MemoryStore();
    await connected(store, LEAST);
    expect(toml).not.toBe(CLEAN);
    await known(store, toml).check(false);
  });

  test("a disk that gives or takes nothing stops nobody", async () => {
    const store = new MemoryStore();
    await connected(store, LEAST);
    const broken = Object.assign(new MemoryStore(), {
      table: () => ({ get: () => Promise.reject(new Error("gone")), put: () => ({}) }),
      commit: () => Promise.reject(new Error("gone")),
    });
    const session = known(broken as unknown as MemoryStore, CLEAN);
    await session.check(false);
    await session.note();
  });
});
