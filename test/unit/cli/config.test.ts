import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { tempDir } from "../../support/temp-dir.ts";
import { cli } from "./fixture.ts";

const secret = "s3cr3t-value";

async function configFile(extra = ""): Promise<{ file: string; dir: string }> {
  const dir = await tempDir();
  const file = join(dir, "agent.toml");
  const text = [
    "[device]",
    'client_id = "GID_demo@@@gw-01"',
    "[auth]",
    'access_key = "AK"',
    `secret = "${secret}"`,
    "[state]",
    `dir = ${JSON.stringify(join(dir, "state"))}`,
    extra,
  ].join("\n");
  await writeFile(file, text, { mode: 0o600 });
  return { file, dir };
}

describe("config check", () => {
  test("a right one is exit 0", async () => {
    const { file } = await configFile();
    const { status, out } = await cli(["config", "check", "--config", file]);
    expect(status).toBe(0);
    expect(out).toContain("The configuration is right (");
  });

  test("warnings are shown, as words and as JSON, and are no failure", async () => {
    const { file } = await configFile('[service]\nendpoints = ["mqtt://broker.example:1883"]');
    const words = await cli(["config", "check", "-c", file]);
    expect(words.status).toBe(0);
    expect(words.out).toMatch(/^warning outbox\.max_rate: /m);
    const json = await cli(["config", "check", "-c", file, "--json"]);
    const { warnings } = JSON.parse(json.out);
    expect(warnings.map(({ key }: { key: string }) => key)).toContain("outbox.max_rate");
  });

  test("a wrong one is exit 2 with file, line and key", async () => {
    const { file } = await configFile("[service]\nkeepalive_s = 1\nkepalive = 4");
    const { status, out, err } = await cli(["config", "check", "-c", file]);
    expect([status, out]).toEqual([2, ""]);
    expect(err).toContain(`${file}:9: service.keepalive_s`);
    expect(err).toContain(`${file}:10: service.kepalive`);
  });

  test("a file with a secret that others can read is exit 2", async () => {
    const { file } = await configFile();
    await chmod(file, 0o644);
    const { status, err } = await cli(["config", "check", "-c", file]);
    expect(status).toBe(2);
    expect(err).toContain("secret_exposed");
  });
});

describe("config show and get", () => {
  test("what is in force, secrets masked, flags and variables counted", async () => {
    const { file } = await configFile();
    const env = { HOLDFAST_SERVICE__KEEPALIVE_S: "33" };
    const argv = ["config", "show", "-c", file, "--set", "log.level=debug", "--origin"];
    const { status, out } = await cli(argv, { env });
    expect(status).toBe(0);
    expect(out).toMatch(/^level = "debug" +# .*log\.level/m);
    expect(out).toMatch(/^keepalive_s = 33 +# HOLDFAST_SERVICE__KEEPALIVE_S$/m);
    expect(out).toMatch(/^client_id = .* # .*agent\.toml:2$/m);
    expect(out).not.toContain(secret);
  });

  test("--docs needs no configuration; with --origin it is wrong usage", async () => {
    const { status, out } = await cli(["config", "show", "--docs"]);
    expect(status).toBe(0);
    expect(out).toMatch(/^keepalive_s = 90$/m);
    expect((await cli(["config", "show", "--docs", "--origin"])).status).toBe(2);
  });

  test("one key: a text as it is, the rest as TOML, or JSON", async () => {
    const { file } = await configFile();
    const get = async (...words: string[]) =>
      (await cli(["config", "get", ...words, "-c", file])).out;
    expect(await get("device.client_id")).toBe("GID_demo@@@gw-01\n");
    expect(await get("device.client_id", "--json")).toBe('"GID_demo@@@gw-01"\n');
    expect(await get("service.keepalive_s")).toBe("90\n");
    expect(JSON.parse(await get("service.reconnect", "--json"))).toMatchObject({ min_ms: 500 });
    expect(await get("auth.secret")).not.toContain(secret);
  });

  test("an unknown key is exit 1 with a hint", async () => {
    const { file } = await configFile();
    const { status, err } = await cli(["config", "get", "service.keepalive", "-c", file]);
    expect(status).toBe(1);
    expect(err).toContain("keepalive_s");
  });
});

describe("config set", () => {
  test("is in force at the next load", async () => {
    const { file, dir } = await configFile();
    const set = await cli(["config", "set", "service.keepalive_s", "45", "-c", file]);
    expect(set.status).toBe(0);
    expect(set.out).toContain(join(dir, "state", "conf.d", "50-set.toml"));
    const get = await cli(["config", "get", "service.keepalive_s", "-c", file]);
    expect(get.out).toBe("45\n");
  });

  test("a wrong value is exit 2 and changes nothing", async () => {
    const { file } = await configFile();
    const set = await cli(["config", "set", "service.keepalive_s", "1", "-c", file]);
    expect([set.status, set.out]).toEqual([2, ""]);
    const get = await cli(["config", "get", "service.keepalive_s", "-c", file]);
    expect(get.out).toBe("90\n");
  });

  test("says when something stronger hides it", async () => {
    const { file } = await configFile();
    const env = { HOLDFAST_LOG__LEVEL: "warn" };
    const { status, err } = await cli(["config", "set", "log.level", "debug", "-c", file], { env });
    expect(status).toBe(0);
    expect(err).toContain("HOLDFAST_LOG__LEVEL");
  });
});
