import { describe, expect, test } from "vitest";
import type { Codec, Table } from "../../../agent/store/store.ts";
import { MemoryStore } from "../../support/memory-store.ts";

const text: Codec<string> = {
  encode: (value) => Buffer.from(value, "utf8"),
  decode: (bytes) => Buffer.from(bytes).toString("utf8"),
};

async function keys(table: Table<string>, range: Parameters<Table<string>["range"]>[0]) {
  const found: string[] = [];
  for await (const [key] of table.range(range)) found.push(key);
  return found;
}

describe("the store in memory", () => {
  test("keeps tables apart and ranges over one of them", async () => {
    const store = new MemoryStore();
    const a = store.table("a", text);
    const b = store.table("b", text);
    const writes = ["3", "1", "2"].map((key) => a.put(key, `value ${key}`));
    await store.commit([...writes, b.put("1", "other")], { sync: true });
    expect(await a.get("1")).toBe("value 1");
    expect(await b.get("1")).toBe("other");
    expect(await keys(a, { limit: 10 })).toEqual(["1", "2", "3"]);
    expect(await keys(a, { limit: 10, gt: "1", lte: "2" })).toEqual(["2"]);
    expect(await keys(a, { limit: 2, reverse: true })).toEqual(["3", "2"]);
    await store.commit([a.del("1")], { sync: false });
    expect(await a.get("1")).toBeUndefined();
  });

  test("loses what was not synced at a power cut, and nothing at a kill", async () => {
    const store = new MemoryStore();
    const a = store.table("a", text);
    await store.commit([a.put("1", "x")], { sync: true });
    await store.commit([a.put("2", "x"), a.del("1")], { sync: false });
    expect(await keys(store.afterPowerCut().table("a", text), { limit: 9 })).toEqual(["1"]);
    expect(await keys(store.afterKill().table("a", text), { limit: 9 })).toEqual(["2"]);
    await store.commit([a.put("3", "x")], { sync: true });
    expect(await keys(store.afterPowerCut().table("a", text), { limit: 9 })).toEqual(["2", "3"]);
  });

  test("fails the commits it is told to, whole", async () => {
    const store = new MemoryStore();
    const a = store.table("a", text);
    store.failCommits(1);
    const failing = store.commit([a.put("1", "x")], { sync: true });
    const passing = store.commit([a.put("2", "x")], { sync: true });
    await expect(failing).rejects.toMatchObject({ code: "store_not_writable" });
    await passing;
    expect(await keys(a, { limit: 9 })).toEqual(["2"]);
  });

  test("numbers densely what it writes", async () => {
    const store = new MemoryStore();
    const a = store.table("a", text);
    const one = () => a.putNumbered((n) => ({ key: `k${n}`, value: `${n}` }));
    await store.commit([one(), one()], { sync: true });
    store.failCommits(1);
    await expect(store.commit([one()], { sync: true })).rejects.toThrow();
    await store.commit([one()], { sync: true });
    expect(await keys(a, { limit: 9 })).toEqual(["k1", "k2", "k3"]);
  });

  test("lets the commits that wait share one sync", async () => {
    const store = new MemoryStore();
    const a = store.table("a", text);
    let release = (): void => undefined;
    store.beforeSync = () => new Promise((resolve) => (release = resolve));
    const first = store.commit([a.put("0", "x")], { sync: true });
    store.beforeSync = () => Promise.resolve();
    const rest = ["1", "2", "3"].map((key) => store.commit([a.put(key, "x")], { sync: true }));
    release();
    await Promise.all([first, ...rest]);
    expect([store.commits, store.syncs]).toEqual([4, 2]);
  });
});
