import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import {
  defaultTimings,
  loadCloudConfig,
  pasteableSections,
  prepareDataFolder,
} from "../../../cloud/cloud.ts";
import { tempDir } from "../../support/temp-dir.ts";

const random = new SystemRandom();

async function load(toml: string, flags: readonly string[] = []) {
  const dir = await tempDir();
  const file = join(dir, "cloud.toml");
  await writeFile(file, toml, { mode: 0o600 });
  return loadCloudConfig({ file, environment: {}, flags, workingFolder: dir });
}

const account = '[[accounts]]\naccess_key = "AK"\nsecret = "SK"\n';

describe("cloud.toml", () => {
  it("gives the options of the service", async () => {
    const { options } = await load(`
${account}
[listen]
mqtt = 1883
ws = 8083
http = 0
[instance]
id = "mqtt-x"
groups = ["GID_demo"]
[[instance.topics]]
name = "GW_UP"
ordered = true
[limits]
subscriptions = 3
[timings]
timestamp_window_ms = 7
`);
    expect(options.listen).toEqual({ host: "127.0.0.1", mqtt: { port: 1883 }, ws: { port: 8083 } });
    expect(options.directory).toEqual({
      accounts: new Map([["AK", "SK"]]),
      instanceId: "mqtt-x",
      groups: new Set(["GID_demo"]),
      topics: new Map([["GW_UP", { ordered: true }]]),
    });
    expect(options.limits).toMatchObject({ subscriptions: 3, timestampWindowMs: 7 });
    expect(options.timings).toEqual(defaultTimings);
  });

  it("gives tokens their limits and times", async () => {
    const { options } = await load(`${account}
[limits]
token_resources = 7
token_applies_per_s = 1
token_queries_per_s = 2
token_revokes_per_min = 0
[timings]
token_notice_ahead_ms = 3
token_min_life_ms = 4
token_max_life_ms = 5
`);
    expect(options.timings).toMatchObject({ tokenNoticeAheadMs: 3 });
    expect(options.limits).toMatchObject({
      ...{ tokenResources: 7, tokenMinLifeMs: 4, tokenMaxLifeMs: 5 },
      ...{ tokenAppliesPerSecond: 1, tokenQueriesPerSecond: 2, tokenRevokesPerMinute: 0 },
    });
  });

  it("is overruled by flags", async () => {
    const flags = ["listen.mqtt=1884", "listen.host=0.0.0.0"];
    const { options } = await load(`[listen]\nmqtt = 1883\n${account}`, flags);
    expect(options.listen).toEqual({ host: "0.0.0.0", mqtt: { port: 1884 } });
  });

  it.each([
    ["an unknown key", "[listen]\nmqtts_port = 1", /cloud\.toml:2: listen\.mqtts_port/],
    [
      "WebSocket over TLS without a certificate",
      "[listen]\nwss = 8084",
      /cloud\.toml:2: listen\.wss/,
    ],
    ["TLS without a certificate", "[listen]\nmqtts = 8883", /tls\.cert_file/],
    [
      "a group id of another form",
      '[instance]\ngroups = ["demo"]',
      /cloud\.toml:2: instance\.groups/,
    ],
    ["a topic of two levels", '[[instance.topics]]\nname = "a/b"', /cloud\.toml:2/],
    ["an account without a secret", '[[accounts]]\naccess_key = "AK"', /secret/],
  ])("with %s is refused, by key and line", async (_, toml, message) => {
    await expect(load(toml)).rejects.toMatchObject({ code: "config_invalid", message });
  });

  it("with a secret that others can read is refused", async () => {
    const dir = await tempDir();
    const file = join(dir, "cloud.toml");
    await writeFile(file, account, { mode: 0o644 });
    const load = () => loadCloudConfig({ file, environment: {}, flags: [], workingFolder: dir });
    expect(load).toThrowError(expect.objectContaining({ code: "secret_exposed" }));
  });
});

describe("a first start", () => {
  it("makes an account with a random secret that only the owner can read, once", async () => {
    const dir = join(await tempDir(), "new");
    const first = await prepareDataFolder(dir, random);
    expect(first.isFirst).toBe(true);
    expect((await stat(first.file)).mode & 0o777).toBe(0o600);
    const text = await readFile(first.file, "utf8");
    expect(await prepareDataFolder(dir, random)).toEqual({ file: first.file, isFirst: false });
    expect(await readFile(first.file, "utf8")).toBe(text);
    const other = await prepareDataFolder(join(dir, "other"), random);
    expect(await readFile(other.file, "utf8")).not.toBe(text);

    const loaded = loadCloudConfig({
      file: first.file,
      environment: {},
      flags: [],
      workingFolder: "/",
    });
    expect(loaded.dataDir).toBe(dir);
    expect(loaded.options.listen).toMatchObject({ mqtt: { port: 1883 }, http: { port: 8080 } });
    expect([...loaded.options.directory.topics.keys()]).toEqual([
      "GW_UP",
      "GW_DOWN",
      "GID_demo_MQTT",
    ]);
    const [secret = ""] = loaded.options.directory.accounts.values();
    expect(secret).toMatch(/^[A-Za-z0-9_-]{32}$/);
  });

  it("gives sections with the addresses it listens on", async () => {
    const { options } = await load(`${account}[instance]\ngroups = ["GID_demo"]\n`);
    const { agent, commander } = pasteableSections(options.directory, {
      mqtt: { host: "0.0.0.0", port: 4001 },
      http: { host: "::1", port: 4002 },
    });
    expect(agent).toContain('client_id = "GID_demo@@@gw-01"');
    expect(agent).toContain('endpoints = ["mqtt://127.0.0.1:4001"]');
    expect(agent).not.toContain("[account]");
    expect(commander).toContain('http = "http://[::1]:4002"');
  });

  it("says so when the folder cannot be written", async () => {
    const file = join(await tempDir(), "file");
    await writeFile(file, "");
    await expect(prepareDataFolder(join(file, "below"), random)).rejects.toMatchObject({
      code: "store_not_writable",
    });
  });
});
