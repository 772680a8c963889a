import { chmod, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import { silentLog } from "../../../agent/core/log.ts";
import { type Directory, tokenFault } from "../../../cloud/access/access.ts";
import { loadTokenKey, Tokens } from "../../../cloud/tokens/tokens.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { MemoryStore } from "../../support/memory-store.ts";
import { SeededRandom } from "../../support/seeded-random.ts";
import { tempDir } from "../../support/temp-dir.ts";

const HOUR_MS = 3_600_000;
const random = new SeededRandom(4);
const accounts = new Map([["AK", "SK"]]);
const directory: Directory = {
  accounts,
  instanceId: "mqtt-local",
  groups: new Set(),
  topics: new Map(),
};

interface Parts {
  readonly clock: FakeClock;
  readonly store?: MemoryStore;
  readonly key?: number;
  readonly accounts?: ReadonlyMap<string, string>;
  readonly revoked?: number;
  readonly wasRepaired?: boolean;
}

async function start({ clock, store = new MemoryStore(), key = 7, revoked = 10, ...more }: Parts) {
  const tokens = new Tokens(
    { maxLifeMs: 720 * HOUR_MS, revoked },
    {
      ...{ store, clock, random, log: silentLog },
      directory: () => ({ ...directory, accounts: more.accounts ?? accounts }),
      key: () => Promise.resolve(Buffer.alloc(32, key)),
      wasRepaired: () => more.wasRepaired ?? false,
    },
  );
  const life = new AbortController();
  await tokens.start(life.signal);
  const stop = async (): Promise<void> => {
    life.abort();
    await tokens.stop();
  };
  onTestFinished(stop);
  return { tokens, store, stop };
}

function issue(tokens: Tokens, change: { lifeMs?: number; resources?: readonly string[] } = {}) {
  const { lifeMs = HOUR_MS, resources = ["GW_UP/#"] } = change;
  const expiresAt = tokens.nowMs() + lifeMs;
  return tokens.issue({ accessKey: "AK", actions: "RW", resources, expiresAt }).token;
}

/** What a query would say of it. */
function stateOf(tokens: Tokens, token: string): number {
  const grant = tokens.open(token);
  return typeof grant === "number" ? grant : (tokens.faultOf(grant) ?? 200);
}

async function revoke(tokens: Tokens, token: string): Promise<void> {
  const grant = tokens.open(token);
  if (typeof grant === "number") throw new Error(`no token: ${grant}`);
  await tokens.revoke(grant);
}

describe("a token", () => {
  it("gives back what it was issued for", async () => {
    const { tokens } = await start({ clock: new FakeClock() });
    const application = {
      ...{ accessKey: "AK", actions: "W" as const },
      ...{ resources: ["GW_UP/+", "GW_DOWN/p2p/#"], expiresAt: tokens.nowMs() + HOUR_MS },
    };
    const { id, token } = tokens.issue(application);
    expect(tokens.open(token)).toEqual({
      ...{ ...application, id, instanceId: "mqtt-local", epoch: 0 },
    });
  });

  it("is opaque Base64 text without a bar, and no two are alike", async () => {
    const { tokens } = await start({ clock: new FakeClock() });
    const all = Array.from({ length: 50 }, () => issue(tokens));
    expect(new Set(all).size).toBe(50);
    for (const token of all) expect(token).toMatch(/^[A-Za-z0-9+/]+={0,2}$/);
    expect(Buffer.from(all.join(""), "base64").includes("GW_UP")).toBe(false);
  });

  it("is short although it names 100 long resources that are alike, and works if they are not", async () => {
    const { tokens } = await start({ clock: new FakeClock() });
    const alike = Array.from({ length: 100 }, (_, i) => `GW_UP/site-0001/building/${i}/#`);
    expect(issue(tokens, { resources: alike }).length).toBeLessThan(1_000);
    const long = alike.map(() => Buffer.from(random.bytes(96)).toString("base64url"));
    const token = issue(tokens, { resources: long });
    expect(token.length).toBeLessThan(16_000);
    expect(tokens.open(token)).toMatchObject({ resources: long });
  });

  it("that was changed in any bit is forged", async () => {
    const { tokens } = await start({ clock: new FakeClock() });
    const bytes = Buffer.from(issue(tokens), "base64");
    for (let i = 0; i < bytes.length; i++) {
      const bent = Buffer.from(bytes);
      bent[i] = (bent[i] ?? 0) ^ (1 << (i % 8));
      expect(tokens.open(bent.toString("base64"))).toBe(tokenFault.forged);
    }
  });

  it.each([
    ["nothing", ""],
    ["words", "no token at all"],
    ["much", "A".repeat(100_000)],
    ["zeros", Buffer.alloc(60).toString("base64")],
  ])("%s is none", async (_, text) => {
    const { tokens } = await start({ clock: new FakeClock() });
    expect(tokens.open(text)).toBe(tokenFault.forged);
  });

  it("has one text: other Base64 of the same bytes is forged", async () => {
    const { tokens } = await start({ clock: new FakeClock() });
    const token = issue(tokens);
    for (const text of [` ${token}`, `${token}\n`, token.replaceAll("+", "-"), `${token}=`]) {
      if (text !== token) expect(tokens.open(text)).toBe(tokenFault.forged);
    }
  });

  it("of another service is forged", async () => {
    const clock = new FakeClock();
    const [one, other] = [await start({ clock }), await start({ clock, key: 8 })];
    expect(other.tokens.open(issue(one.tokens))).toBe(tokenFault.forged);
  });

  it("is void when its account's secret was changed (8) or its account is gone (-1)", async () => {
    const clock = new FakeClock();
    const { tokens, store, stop } = await start({ clock });
    const token = issue(tokens);
    await stop();
    const changed = await start({ clock, store, accounts: new Map([["AK", "other"]]) });
    expect(stateOf(changed.tokens, token)).toBe(tokenFault.signature);
    const gone = await start({ clock, store, accounts: new Map() });
    expect(stateOf(gone.tokens, token)).toBe(tokenFault.permission);
  });

  it("loses its right at once when its account is taken away", async () => {
    const mine = new Map(accounts);
    const { tokens } = await start({ clock: new FakeClock(), accounts: mine });
    const grant = tokens.open(issue(tokens));
    mine.delete("AK");
    expect(typeof grant === "object" && tokens.faultOf(grant)).toBe(tokenFault.permission);
  });
});

describe("a restart", () => {
  it("after a power cut knows issued and revoked tokens", async () => {
    const clock = new FakeClock();
    const { tokens, store } = await start({ clock });
    const [good, bad] = [issue(tokens), issue(tokens)];
    await revoke(tokens, bad);
    const again = await start({ clock, store: store.afterPowerCut() });
    expect(stateOf(again.tokens, good)).toBe(200);
    expect(stateOf(again.tokens, bad)).toBe(tokenFault.revoked);
  });

  it("without its database voids every token: nothing revoked comes back", async () => {
    const clock = new FakeClock();
    const { tokens } = await start({ clock });
    const token = issue(tokens);
    const again = await start({ clock, store: new MemoryStore() });
    expect(stateOf(again.tokens, token)).toBe(tokenFault.forged);
  });

  it("on a repaired database voids them too, and what is issued then stays", async () => {
    const clock = new FakeClock();
    const { tokens, store } = await start({ clock });
    const [good, bad] = [issue(tokens), issue(tokens)];
    await revoke(tokens, bad);
    const repaired = await start({ clock, store, wasRepaired: true });
    expect(stateOf(repaired.tokens, good)).toBe(tokenFault.forged);
    const fresh = issue(repaired.tokens);
    const again = await start({ clock, store: store.afterPowerCut() });
    expect(stateOf(again.tokens, fresh)).toBe(200);
    expect(stateOf(again.tokens, bad)).toBe(tokenFault.forged);
  });

  it("takes a damaged revocation for one", async () => {
    const clock = new FakeClock();
    const { tokens, store } = await start({ clock });
    const [good, bad] = [issue(tokens), issue(tokens)];
    await revoke(tokens, bad);
    store.damage("cloud_revoked", () => true);
    const again = await start({ clock, store: store.afterPowerCut() });
    expect(stateOf(again.tokens, good)).toBe(200);
    expect(stateOf(again.tokens, bad)).toBe(tokenFault.revoked);
  });
});

describe("a revocation", () => {
  it("counts when it is on disk, and not before", async () => {
    const { tokens, store } = await start({ clock: new FakeClock() });
    const token = issue(tokens);
    let release = (): void => undefined;
    store.beforeSync = () =>
      new Promise((resolve) => {
        release = resolve;
      });
    const revoking = revoke(tokens, token);
    await Promise.resolve();
    expect(stateOf(tokens, token)).toBe(200);
    store.beforeSync = () => Promise.resolve();
    release();
    await revoking;
    expect(stateOf(tokens, token)).toBe(tokenFault.revoked);
  });

  it("that the disk refuses leaves the token as it was", async () => {
    const { tokens, store } = await start({ clock: new FakeClock() });
    const token = issue(tokens);
    store.failCommits(1);
    await expect(revoke(tokens, token)).rejects.toThrow();
    expect(stateOf(tokens, token)).toBe(200);
  });

  it("is forgotten when the token has expired, also on disk", async () => {
    const clock = new FakeClock();
    const { tokens, store } = await start({ clock });
    const [brief, long] = [issue(tokens, { lifeMs: 60_000 }), issue(tokens)];
    await revoke(tokens, brief);
    await revoke(tokens, long);
    await clock.advance(80_000);
    expect(tokens.revoked).toBe(1);
    const again = await start({ clock, store: store.afterPowerCut() });
    expect(again.tokens.revoked).toBe(1);
    expect(stateOf(again.tokens, brief)).toBe(tokenFault.expired);
    expect(stateOf(again.tokens, long)).toBe(tokenFault.revoked);
  });

  it("is bounded in number; once more or of an expired token it takes no room", async () => {
    const clock = new FakeClock();
    const { tokens } = await start({ clock, revoked: 2 });
    const all = [issue(tokens), issue(tokens), issue(tokens)] as const;
    const brief = issue(tokens, { lifeMs: 60_000 });
    await clock.advance(60_000);
    await revoke(tokens, all[0]);
    await revoke(tokens, all[0]);
    await revoke(tokens, brief);
    await revoke(tokens, all[1]);
    await expect(revoke(tokens, all[2])).rejects.toMatchObject({ code: "too_many" });
    expect(stateOf(tokens, all[2])).toBe(200);
  });
});

describe("a wall clock that jumps", () => {
  it("ahead and back within a minute ends no token", async () => {
    const clock = new FakeClock();
    const { tokens } = await start({ clock });
    const token = issue(tokens);
    clock.jumpWall(24 * HOUR_MS);
    await clock.advance(50_000);
    expect(stateOf(tokens, token)).toBe(200);
    clock.jumpWall(-24 * HOUR_MS);
    await clock.advance(120_000);
    expect(stateOf(tokens, token)).toBe(200);
    await clock.advance(HOUR_MS);
    expect(stateOf(tokens, token)).toBe(tokenFault.expired);
  });

  it("ahead for good is believed after a minute", async () => {
    const clock = new FakeClock();
    const { tokens } = await start({ clock });
    const [brief, long] = [issue(tokens), issue(tokens, { lifeMs: 48 * HOUR_MS })];
    clock.jumpWall(24 * HOUR_MS);
    await clock.advance(90_000);
    expect(stateOf(tokens, brief)).toBe(tokenFault.expired);
    expect(stateOf(tokens, long)).toBe(200);
    expect(tokens.nowMs()).toBe(clock.wallMs());
  });

  it("back for good revives nothing, and new tokens live as long as they should", async () => {
    const clock = new FakeClock();
    const { tokens, store, stop } = await start({ clock });
    const old = issue(tokens);
    await clock.advance(HOUR_MS);
    expect(stateOf(tokens, old)).toBe(tokenFault.expired);
    clock.jumpWall(-24 * HOUR_MS);
    await clock.advance(90_000);
    expect(tokens.nowMs()).toBe(clock.wallMs());
    expect(stateOf(tokens, old)).toBe(tokenFault.expired);
    const fresh = issue(tokens);
    expect(stateOf(tokens, fresh)).toBe(200);
    await stop();
    const again = await start({ clock, store: store.afterPowerCut() });
    expect(stateOf(again.tokens, old)).toBe(tokenFault.expired);
    expect(stateOf(again.tokens, fresh)).toBe(200);
    await clock.advance(HOUR_MS);
    expect(stateOf(again.tokens, fresh)).toBe(tokenFault.expired);
  });

  it("back while the service is stopped revives nothing, a forgotten revocation neither", async () => {
    const clock = new FakeClock();
    const { tokens, store } = await start({ clock });
    const [brief, revoked] = [issue(tokens), issue(tokens)];
    await revoke(tokens, revoked);
    await clock.advance(HOUR_MS + 10_000);
    expect(tokens.revoked).toBe(0);
    clock.jumpWall(-2 * HOUR_MS);
    const again = await start({ clock, store: store.afterPowerCut() });
    expect(stateOf(again.tokens, brief)).toBe(tokenFault.expired);
    expect(stateOf(again.tokens, revoked)).toBe(tokenFault.expired);
    expect(again.tokens.nowMs()).toBe(clock.wallMs());
    expect(stateOf(again.tokens, issue(again.tokens))).toBe(200);
  });

  it("back by a moment, as a clock that is being set right, revives nothing", async () => {
    const clock = new FakeClock();
    const { tokens } = await start({ clock });
    const token = issue(tokens);
    await clock.advance(HOUR_MS);
    clock.jumpWall(-1_500);
    expect(stateOf(tokens, token)).toBe(tokenFault.expired);
    await clock.advance(1_000);
    expect(stateOf(tokens, token)).toBe(tokenFault.expired);
  });

  it("never revives what had expired, whatever happens", async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: HOUR_MS }) }),
      fc.record({
        kind: fc.constant("jump" as const),
        ms: fc.integer({ min: -24 * HOUR_MS, max: 24 * HOUR_MS }),
      }),
      fc.record({
        kind: fc.constant("drift" as const),
        ms: fc.integer({ min: -1_900, max: 1_900 }),
      }),
      fc.record({ kind: fc.constant("restart" as const), ms: fc.constant(0) }),
      fc.record({ kind: fc.constant("issue" as const), ms: fc.integer({ min: 1, max: HOUR_MS }) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const clock = new FakeClock({ settle: () => Promise.resolve() });
        let { tokens, store, stop } = await start({ clock });
        const issued: string[] = [];
        const expired = new Set<string>();
        for (const { kind, ms } of steps) {
          if (kind === "wait") await clock.advance(ms);
          else if (kind === "jump" || kind === "drift") clock.jumpWall(ms);
          else if (kind === "issue") issued.push(issue(tokens, { lifeMs: ms }));
          else {
            await stop();
            ({ tokens, store, stop } = await start({ clock, store }));
          }
          for (const token of issued) {
            const isExpired = stateOf(tokens, token) === tokenFault.expired;
            if (expired.has(token)) expect(isExpired).toBe(true);
            if (isExpired) expired.add(token);
          }
        }
        await stop();
      }),
      { numRuns: 150 },
    );
  });
});

describe("the key file", () => {
  it("is made once, for its owner alone", async () => {
    const dir = await tempDir();
    const key = await loadTokenKey(dir, random);
    expect(key).toHaveLength(32);
    const file = join(dir, "token.key");
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(Buffer.from(await loadTokenKey(dir, random))).toEqual(Buffer.from(key));
    expect(await readFile(file)).toEqual(Buffer.from(key));
  });

  it("that others can read, or that is no key, is refused without a word of it", async () => {
    const dir = await tempDir();
    const file = join(dir, "token.key");
    await loadTokenKey(dir, random);
    await chmod(file, 0o640);
    await expect(loadTokenKey(dir, random)).rejects.toMatchObject({ code: "secret_exposed" });
    await writeFile(file, "half of it");
    await chmod(file, 0o600);
    await expect(loadTokenKey(dir, random)).rejects.toMatchObject({
      ...{ code: "store_damaged", message: expect.not.stringContaining("half of it") },
    });
  });

  it("is made whole after a start that was cut off", async () => {
    const dir = await tempDir();
    await writeFile(join(dir, "token.key.new"), "half");
    expect(await loadTokenKey(dir, random)).toHaveLength(32);
  });

  it("is in a folder that cannot be written: an error of the store", async () => {
    await expect(loadTokenKey("/proc/nowhere", random)).rejects.toMatchObject({
      code: "store_not_writable",
    });
  });
});
