import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { getValue, setValue, systemFiles } from "../../../agent/config/config.ts";
import { MemoryFiles } from "../../support/memory-files.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { FILE, failure, LEAST, load, sources } from "./agent.ts";

const SET = "/s/conf.d/50-set.toml";
const agentFiles = (extra = ""): MemoryFiles =>
  new MemoryFiles({ [FILE]: `${LEAST}[state]\ndir = "/s"\n${extra}` });
const set = (files: MemoryFiles, key: string, value: string, given = {}) =>
  setValue(sources(given), { key, value }, files);

test("what is set is in force at the next load, beside what was set before", () => {
  const files = agentFiles();
  set(files, "service.keepalive_s", "30");
  set(files, "service.reconnect.min_ms", "750");
  set(files, "commands.allow_unsigned", "a.b,c.d");
  set(files, "outbox.lanes.video.keep", "latest");
  set(files, "plugins.config.exec.limit", "[1, 2]");
  const { file, loaded, hiddenBy } = set(files, "service.keepalive_s", "40");
  expect(file).toBe(SET);
  expect(hiddenBy).toBeUndefined();
  expect(loaded.config).toEqual(load("", { files }).config);
  expect(loaded.config.service).toMatchObject({ keepalive_s: 40, reconnect: { min_ms: 750 } });
  expect(loaded.config.commands.allow_unsigned).toEqual(["a.b", "c.d"]);
  expect(loaded.config.outbox.lanes["video"]?.keep).toBe("latest");
  expect(loaded.config.plugins.config["exec"]).toEqual({ limit: [1, 2] });
  expect(files.text(SET)?.match(/keepalive_s/g)).toHaveLength(1);
});

test.each([
  ["config_invalid", "service.keepalive_s", "4"],
  ["config_invalid", "service.keepalive", "40"],
  ["config_invalid", "service.reconnect.min_ms", "130000"],
  ["config_invalid", "service.reconnect", "5"],
  ["config_invalid", "outbox.lanes.bulk.max_mb", "5000"],
  ["usage", "state.dir", "/x"],
  ["usage", "commands.keys.0.kid", "x"],
  ["usage", "service", "x"],
  ["usage", "a b.c", "x"],
])("%s: %s = %s is refused and nothing is written", (code, key, value) => {
  const files = agentFiles();
  expect(failure(() => set(files, key, value)).code).toBe(code);
  expect(files.text(SET)).toBeUndefined();
});

test("a key that a stronger source hides is set, and the caller is told", () => {
  const files = agentFiles();
  const environment = { HOLDFAST_LOG__LEVEL: "error" };
  const { hiddenBy, loaded } = set(files, "log.level", "debug", { environment });
  expect(hiddenBy).toBe("HOLDFAST_LOG__LEVEL");
  expect(loaded.config.log.level).toBe("error");
  expect(load("", { files }).config.log.level).toBe("debug");
});

test("a damaged file of set keys is named and left alone", () => {
  const files = agentFiles();
  files.set(SET, "[log\n");
  const { message } = failure(() => set(files, "log.level", "debug"));
  expect(message).toContain(`${SET}:1: it is not TOML`);
  expect(files.text(SET)).toBe("[log\n");
});

test("on a real disk it is one private file, and nothing is left beside it", async () => {
  const dir = await tempDir();
  const file = join(dir, "holdfast.toml");
  systemFiles.writeAtomic(file, `${LEAST}[state]\ndir = "state"`, 0o600);
  const given = { ...sources(), file };
  setValue(given, { key: "log.level", value: "debug" });
  const result = setValue(given, { key: "log.level", value: "warn" });
  expect(result.file).toBe(join(dir, "state/conf.d/50-set.toml"));
  expect(readdirSync(join(dir, "state/conf.d"))).toEqual(["50-set.toml"]);
  expect(readFileSync(result.file, "utf8")).toContain('level = "warn"');
  expect(statSync(result.file).mode & 0o777).toBe(0o600);
});

test("a failed write leaves the old file and no other", async () => {
  const dir = await tempDir();
  systemFiles.writeAtomic(join(dir, "taken/x"), "", 0o600);
  expect(() => systemFiles.writeAtomic(join(dir, "taken"), "new", 0o600)).toThrow();
  expect(readdirSync(dir)).toEqual(["taken"]);
});

test("get gives a key or a section, and says when there is none", () => {
  const loaded = load(LEAST);
  expect(getValue(loaded, "service.keepalive_s")).toBe(90);
  expect(getValue(loaded, "commands.reply_to")).toEqual(["{down}/p2p/+", "{up}/reply/+"]);
  expect(getValue(loaded, "outbox.lanes.alarm")).toMatchObject({ priority: 2, keep: "latest" });
  const error = failure(() => getValue(loaded, "service.keepalive"));
  expect(error.code).toBe("not_found");
  expect(error.message).toContain("did you mean keepalive_s?");
  expect(failure(() => getValue(loaded, "auth.password")).code).toBe("not_found");
  expect(failure(() => getValue(loaded, "service.constructor")).code).toBe("not_found");
});
