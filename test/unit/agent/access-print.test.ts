import { expect, test } from "vitest";
import { AccessPrint } from "../../../agent/wiring/access-print.ts";
import { MemoryStore } from "../../support/memory-store.ts";
import { LEAST, load, SECRET } from "../config/agent.ts";

test("a start with another address, credential or parent topic is noticed, once", async () => {
  const store = new MemoryStore();
  const start = (toml: string): Promise<boolean> =>
    new AccessPrint(store, load(toml).config).changed("id of the store");
  expect(await start(LEAST)).toBe(false);
  expect(await start(LEAST)).toBe(false);
  for (const changed of [
    LEAST.replace(SECRET, "another"),
    `${LEAST}[topics]\nup = "GW_NEW"\n`,
    `${LEAST}[service]\nendpoints = ["mqtt://127.0.0.1:1999"]\n`,
    LEAST,
  ]) {
    expect(await start(changed)).toBe(true);
    expect(await start(changed)).toBe(false);
  }
  expect(await start(`${LEAST}[log]\nlevel = "debug"\n`)).toBe(false);
});

test("what is kept depends on the store's own id", async () => {
  const kept = async (id: string): Promise<string[]> => {
    const store = new MemoryStore();
    await new AccessPrint(store, load(LEAST).config).changed(id);
    const values: string[] = [];
    const codec = { encode: (v: string) => Buffer.from(v), decode: (b: Uint8Array) => String(b) };
    for await (const [, value] of store.table("access", codec).range({ limit: 9 })) {
      values.push(value);
    }
    return values;
  };
  expect(await kept("a")).not.toEqual(await kept("b"));
  expect((await kept("a")).join()).not.toContain(SECRET);
});
