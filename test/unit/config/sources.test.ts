import fc from "fast-check";
import { expect, test } from "vitest";
import {
  choice,
  defineTable,
  flag,
  formatTomlValue,
  integer,
  list,
  loadToml,
  number,
  section,
  tables,
  text,
} from "../../../agent/config/config.ts";
import { MemoryFiles } from "../../support/memory-files.ts";
import { FILE, failure, LEAST, load, problems } from "./agent.ts";

const STATE = `[state]\ndir = "/s"\n`;

test("the later source wins, and the origin tells which it was", () => {
  const files = new MemoryFiles({ [FILE]: `${LEAST}${STATE}[service]\nkeepalive_s = 10\n` });
  const environment: Record<string, string> = {};
  const flags: string[] = [];
  const now = (): readonly [number, string | undefined, number | undefined] => {
    const { config, origins } = load("", { files, environment, flags });
    const where = origins.get("service.keepalive_s");
    return [config.service.keepalive_s, where?.name, where?.line];
  };
  expect(now()).toEqual([10, FILE, 9]);
  files.set("/etc/holdfast/conf.d/20-b.toml", "service.keepalive_s = 12");
  files.set("/etc/holdfast/conf.d/10-a.toml", "service.keepalive_s = 11");
  files.set("/etc/holdfast/conf.d/30-c.toml.bak", "service.keepalive_s = 99");
  files.set("/etc/holdfast/conf.d/.hidden.toml", "service.keepalive_s = 99");
  expect(now()).toEqual([12, "/etc/holdfast/conf.d/20-b.toml", 1]);
  files.set("/s/conf.d/50-set.toml", "\n\n[service]\nkeepalive_s = 13");
  expect(now()).toEqual([13, "/s/conf.d/50-set.toml", 4]);
  environment["HOLDFAST_SERVICE__KEEPALIVE_S"] = "14";
  expect(now()).toEqual([14, "HOLDFAST_SERVICE__KEEPALIVE_S", undefined]);
  flags.push("service.keepalive_s=15", "service.keepalive_s=16");
  expect(now()).toEqual([16, "--set service.keepalive_s", undefined]);
});

test("the state folder may come from any source but itself", () => {
  const files = new MemoryFiles({ [FILE]: LEAST, "/e/conf.d/a.toml": "log.level = 'warn'" });
  const environment = { HOLDFAST_STATE__DIR: "/e" };
  expect(load("", { files, environment }).config.log.level).toBe("warn");
  files.set("/e/conf.d/b.toml", "state.dir = '/elsewhere'");
  expect(load("", { files, environment }).config.state.dir).toBe("/e");
  const inside = new MemoryFiles({ [FILE]: LEAST + STATE, "/s/conf.d/b.toml": "state.dir = '/x'" });
  const { message } = failure(() => load("", { files: inside }));
  expect(message).toContain("/s/conf.d/b.toml:1: state.dir: a file in /s/conf.d moves the folder");
});

test("sections merge key by key, a list of tables is replaced as a whole", () => {
  const row = (kid: string): string =>
    `[[commands.keys]]\nkid = "${kid}"\npublic_key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="\n`;
  const files = new MemoryFiles({
    [FILE]: `${LEAST}[plugins.config.exec]\na = 1\nb.c = 2\n${row("one")}${row("two")}`,
    "/etc/holdfast/conf.d/x.toml": `[plugins.config.exec.b]\nd = 3\n${row("three")}`,
  });
  const { config, origins } = load("", { files });
  expect(config.plugins.config).toEqual({ exec: { a: 1, b: { c: 2, d: 3 } } });
  expect(config.commands.keys.map(({ kid }) => kid)).toEqual(["three"]);
  expect(origins.has("commands.keys.1")).toBe(false);
});

test("a variable reaches every kind of key", () => {
  const environment = {
    HOLDFAST_SERVICE__RECONNECT__MIN_MS: "750",
    HOLDFAST_SERVICE__CLEAN_SESSION: "true",
    HOLDFAST_SERVICE__ENDPOINTS: "mqtt://a, mqtt://b",
    HOLDFAST_COMMANDS__ALLOW_UNSIGNED: '["a.b", "c"]',
    HOLDFAST_OUTBOX__LANES__FAST_LANE__PRIORITY: "2",
    HOLDFAST_OUTBOX__LANES__TELEMETRY__SHARE: "3",
    HOLDFAST_PLUGINS__CONFIG__EXEC__LIMIT: "5",
    HOLDFAST_PLUGINS__CONFIG__EXEC__NAME: "plain text",
    HOLDFAST_HOME: "no key of ours",
    HOLDFAST: "nor this",
    SERVICE__KEEPALIVE_S: "nor this",
  };
  const { config } = load(`${LEAST}[outbox.lanes.fast-lane]\nshare = 9`, { environment });
  expect(config.service.reconnect.min_ms).toBe(750);
  expect(config.service.clean_session).toBe(true);
  expect(config.service.endpoints).toEqual(["mqtt://a", "mqtt://b"]);
  expect(config.commands.allow_unsigned).toEqual(["a.b", "c"]);
  expect(config.outbox.lanes["fast-lane"]).toMatchObject({ priority: 2, share: 9 });
  expect(config.outbox.lanes["fast_lane"]).toBeUndefined();
  expect(config.outbox.lanes.telemetry.share).toBe(3);
  expect(config.plugins.config["exec"]).toEqual({ limit: 5, name: "plain text" });
});

test.each([
  [
    "HOLDFAST_SERVICE__KEEPALIVE",
    "5",
    "service.keepalive: there is no such key, did you mean keepalive_s?",
  ],
  [
    "HOLDFAST_SERVICE__KEEPALIVE_S",
    "",
    'service.keepalive_s: it is the text ""; expected an integer',
  ],
  ["HOLDFAST_SERVICE__KEEPALIVE_S", "0x10", "expected an integer"],
  ["HOLDFAST_SERVICE__CLEAN_SESSION", "yes", "expected true or false"],
  ["HOLDFAST_SERVICE__ENDPOINTS", '["a', "expected a list of strings"],
  ["HOLDFAST_SERVICE__PROFILE__X", "5", "service.profile: it is a table"],
  ["HOLDFAST_COMMANDS__KEYS__KID", "a", "expected an array of tables in a file: [[commands.keys]]"],
  ["HOLDFAST_SERVICE____X", "5", "it names no key; expected SECTION__KEY"],
])("variable %s=%s", (name, value, expected) => {
  const lines = problems(LEAST, { environment: { [name]: value } });
  expect(lines).toEqual([expect.stringContaining(expected)]);
  expect(lines[0]).toMatch(new RegExp(`^${name}: `));
});

test.each([["nothing"], ["=5"], [" = 5"], ["a b=5"], ["a\nb=5"]])("flag %j is refused", (flag) => {
  const expected = "--set: the flag is not of its form; expected section.key=value";
  expect(problems(LEAST, { flags: [flag] })).toEqual([expected]);
});

test("paths start at their file, at the working folder elsewhere, and ~ is the home folder", () => {
  const given = { flags: ["plugins.dir=p"], environment: { HOLDFAST_CONTROL__DIR: "~/c" } };
  const { config } = load(`${LEAST}[state]\ndir = "data"`, given);
  expect(config.state.dir).toBe("/etc/holdfast/data");
  expect(config.plugins.dir).toBe("/cwd/p");
  expect(config.control.dir).toBe("/home/op/c");
});

const scalars = defineTable({
  s: section("", {
    text: text({ default: "", doc: "" }),
    integer: integer({ default: 0, doc: "" }),
    number: number({ default: 0, doc: "" }),
    flag: flag({ default: false, doc: "" }),
    word: choice(["one", "two"], { default: "one", doc: "" }),
    list: list({ default: [], doc: "" }),
  }),
});
const folders = { working: "/", home: "/" };

test("any value comes back from TOML, from a variable and from a flag as it was", () => {
  const string = fc.string({ unit: "binary" }).map((s) => s.toWellFormed());
  const value = fc.record({
    text: string,
    integer: fc.integer({ min: -(10 ** 15) + 1, max: 10 ** 15 - 1 }),
    number: fc
      .double({ noNaN: true, noDefaultInfinity: true, min: -1e15, max: 1e15 })
      .map((n) => n || 0),
    flag: fc.boolean(),
    word: fc.constantFrom("one", "two"),
    list: fc.array(string, { maxLength: 4 }),
  });
  fc.assert(
    fc.property(value, (given) => {
      const lines = Object.entries(given).map(([k, v]) => `${k} = ${formatTomlValue(v)}\n`);
      const files = new MemoryFiles({ "/f.toml": `[s]\n${lines.join("")}` });
      const fromFile = loadToml(scalars, { files: ["/f.toml"], folders }, { files });
      expect(fromFile.config.s).toEqual(given);

      const asText = Object.entries(given).map(
        ([k, v]) => [k, typeof v === "string" ? v : formatTomlValue(v)] as const,
      );
      const environment = Object.fromEntries(
        asText.map(([k, v]) => [`X_S__${k.toUpperCase()}`, v]),
      );
      const fromEnvironment = { files: [], environmentPrefix: "X_", environment, folders };
      expect(loadToml(scalars, fromEnvironment, { files }).config.s).toEqual(given);

      const flags = asText.map(([k, v]) => `s.${k}=${v}`);
      expect(loadToml(scalars, { files: [], flags, folders }, { files }).config.s).toEqual(given);
    }),
  );
});

test("every way to write a table in TOML comes to the same, with the line of each key", () => {
  const row = { at: section("", { x: integer({ default: 0, doc: "" }) }) };
  const table = defineTable({ a: section("", { rows: tables("", row) }) });
  const load = (toml: string) => {
    const files = new MemoryFiles({ "/f.toml": toml });
    return loadToml(table, { files: ["/f.toml"], folders }, { files });
  };
  const written = [
    ["[[a.rows]]\n[a.rows.at]\nx = 1\n[[a.rows]]\nat.x = 2\n", [3, 5]],
    ["[a]\nrows = [\n  { at = { x = 1 } },\n  { at.x = 2 },\n]", [3, 4]],
    ["[[\"a\".rows]]\nat = { x = 1 }\n\n[[a.'rows']]\n  [a.rows.at]\n  x = 2", [2, 6]],
    ["a.rows = [{ at.x = 1 }, { at.x = 2 }]", [1, 1]],
    ["\ufeff# with CRLF\r\n[[a.rows]]\r\nat.x = 1\r\n[[a.rows]]\r\nat.x = 2\r\n", [3, 5]],
  ] as const;
  for (const [toml, lines] of written) {
    const { config, origins } = load(toml);
    expect(config.a.rows).toEqual([{ at: { x: 1 } }, { at: { x: 2 } }]);
    expect([0, 1].map((i) => origins.get(`a.rows.${i}.at.x`)?.line)).toEqual(lines);
  }
});
