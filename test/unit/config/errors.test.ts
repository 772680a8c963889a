import { expect, test } from "vitest";
import { MAX_TOML_BYTES } from "../../../agent/config/toml.ts";
import { MemoryFiles } from "../../support/memory-files.ts";
import { FILE, failure, LEAST, load, problems } from "./agent.ts";

/** LEAST has 5 lines, so what a case adds starts on line 6. */
test.each([
  [
    "wrong type",
    `[service]\nkeepalive_s = "90"`,
    `:7: service.keepalive_s: it is a string; expected an integer from 5 to 65535 (s)`,
  ],
  [
    "under the least",
    `[service]\nkeepalive_s = 4`,
    `:7: service.keepalive_s: it is 4; expected an integer from 5`,
  ],
  [
    "fraction",
    `[service]\nkeepalive_s = 5.0`,
    `:7: service.keepalive_s: it is the number 5.0; expected an integer`,
  ],
  [
    "boolean as text",
    `[service]\nclean_session = "no"`,
    `:7: service.clean_session: it is a string; expected true or false`,
  ],
  [
    "dotted key",
    `[service]\n\nreconnect.min_ms = 0`,
    `:8: service.reconnect.min_ms: it is 0; expected an integer from 10 to 86400000 (ms)`,
  ],
  [
    "inline table",
    `[service]\n\nreconnect = { min_ms = 500,  max_ms = true }`,
    `:8: service.reconnect.max_ms: it is the boolean true`,
  ],
  [
    "not of the list",
    `[service]\nprofile = "lqm-"`,
    `:7: service.profile: it is "lqm-"; expected one of lmq, mqtt`,
  ],
  [
    "near miss of a word",
    `[log]\nlevel = "inf"`,
    `expected one of debug, info, warn, error, did you mean info?`,
  ],
  [
    "near miss of a key",
    `[service]\nkeep_alive_s = 90`,
    `:7: service.keep_alive_s: there is no such key, did you mean keepalive_s?`,
  ],
  [
    "near miss of a section",
    `[services]\nprofile = "lmq"`,
    `:6: services: there is no such section, did you mean service?`,
  ],
  ["unknown key", `[clock]\nzzz = 1`, `:7: clock.zzz: there is no such key; expected one of trust`],
  [
    "key for a section",
    `[state]\nquota_mb = 320\n[outbox]\nlanes = 5`,
    `:9: outbox.lanes: it is the integer 5; expected a section: [outbox.lanes]`,
  ],
  [
    "section for a key",
    `[service.profile]\nx = 1`,
    `:6: service.profile: it is a table; expected one of lmq, mqtt`,
  ],
  [
    "list of others",
    `[service]\nendpoints = [\n  "mqtt://h",\n  5]`,
    `:7: service.endpoints: it is a list; expected a list of strings`,
  ],
  [
    "table for an array",
    `[commands.keys]\nkid = "a"`,
    `:6: commands.keys: it is a table; expected an array of tables in a file: [[commands.keys]]`,
  ],
  [
    "missing in a row",
    `[[commands.keys]]\nkid = "a"\npublic_key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="\n[[commands.keys]]\nkid = "b"`,
    `:9: commands.keys.1.public_key: it is missing; expected a string`,
  ],
  [
    "wrong in a row",
    `[[commands.keys]]\nkid = "a"\npublic_key = "AAAA"`,
    `:8: commands.keys.0.public_key: "AAAA" does not fit; expected base64 or base64url of the 32 bytes`,
  ],
  [
    "date",
    `[service]\ninstance_id = 2026-01-01`,
    `:7: service.instance_id: it is the date or time 2026-01-01; expected a string`,
  ],
  [
    "too large for a double",
    `[outbox]\nmax_rate = 9223372036854775807`,
    `:7: outbox.max_rate: it is the integer 9223372036854775807; expected`,
  ],
  [
    "bad lane name",
    `[outbox.lanes."a b"]\npriority = 1`,
    `:6: outbox.lanes."a b": the name does not fit; expected letters`,
  ],
  [
    "prototype as a name",
    `[outbox.lanes.__proto__]\npriority = 1`,
    `:6: outbox.lanes.__proto__: the name does not fit`,
  ],
  [
    "plugin config that is no table",
    `[plugins.config]\nexec = 1`,
    `:7: plugins.config.exec: it is the integer 1; expected a section`,
  ],
  [
    "date in a plugin's config",
    `[plugins.config.exec]\na = [1, 2026-01-01]`,
    `:7: plugins.config.exec.a.1: it is the date or time 2026-01-01; expected a string`,
  ],
])("%s", (_, toml, expected) => {
  const lines = problems(LEAST + toml);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain(expected);
  expect(lines[0]).toMatch(new RegExp(`^${FILE}:`));
});

test.each([
  ["no value", `[device]\nclient_id =\n`, 2],
  ["duplicate key", `[device]\nclient_id = "a"\n\nclient_id = "b"`, 4],
  ["duplicate section", `[device]\n\n[device]`, 3],
  ["open string", `[device]\nclient_id = "a`, 2],
  ["open list", `[a]\nb = [1,`, 2],
  ["rubbish", `\n\n=`, 3],
  ["redefined by an array", `[a]\nx = 1\n[[a]]`, 3],
])("syntax: %s", (_, toml, line) => {
  const lines = problems(toml);
  // Nothing about missing keys: the file that has them could not be read.
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(new RegExp(`^${FILE}:${line}: it is not TOML: `));
});

test("every problem of every source comes at once", () => {
  const files = new MemoryFiles({
    [FILE]: `service.keepalive_s = 1\n`,
    "/etc/holdfast/conf.d/10-a.toml": "[log]\nlevel = 5",
  });
  const given = { files, environment: { HOLDFAST_HEALTH__INTERVAL_S: "soon" }, flags: ["a.b=1"] };
  const error = failure(() => load("", given));
  expect(error.code).toBe("config_invalid");
  expect(error.message.split("\n")).toEqual([
    "The configuration is wrong in 7 places:",
    expect.stringMatching(/^--set a\.b: a: there is no such section; expected one of device, /),
    `${FILE}: device.client_id: it is missing; expected a string`,
    `${FILE}:1: service.keepalive_s: it is 1; expected an integer from 5 to 65535 (s)`,
    `HOLDFAST_HEALTH__INTERVAL_S: health.interval_s: it is the text "soon"; expected an integer from 5 to 86400 (s)`,
    `/etc/holdfast/conf.d/10-a.toml:2: log.level: it is the integer 5; expected one of debug, info, warn, error`,
    expect.stringContaining("auth.access_key is not set; expected it for auth.mode"),
    expect.stringContaining("auth.secret is not set; expected it for auth.mode"),
  ]);
});

test("a wrong value is a problem also where a later source hides it", () => {
  const lines = problems(`${LEAST}[log]\nlevel = "loud"`, { flags: ["log.level=warn"] });
  expect(lines).toEqual([expect.stringContaining(`${FILE}:7: log.level: it is "loud"`)]);
});

test("a file that is not there is named", () => {
  const lines = failure(() => load("", { files: new UnreadableFiles() })).message.split("\n");
  expect(lines[1]).toBe(`${FILE}: there is no such file; expected the configuration`);
});

class UnreadableFiles extends MemoryFiles {
  constructor() {
    super({ [FILE]: "" });
  }

  override read(): undefined {
    return undefined;
  }
}

test.each([
  ["too large", "#".repeat(MAX_TOML_BYTES + 1), "bytes; expected at most"],
  ["lists in lists", `a = ${"[".repeat(50_000)}${"]".repeat(50_000)}`, "nested too deep"],
  ["tables in tables", `a = ${"{b=".repeat(50_000)}1${"}".repeat(50_000)}`, "nested too deep"],
  ["dots", `a${".a".repeat(100_000)} = 1`, "nested too deep"],
  ["a header of dots", `[a${".a".repeat(100_000)}]`, "nested too deep"],
  ["not text", new Uint8Array([0x61, 0xff, 0xfe]), "not UTF-8"],
  ["zero bytes", "\0\0\0\0", "not TOML"],
])("hostile: %s", (_, content, expected) => {
  const files = new MemoryFiles({ [FILE]: content });
  expect(failure(() => load("", { files })).message).toContain(expected);
});

test("hostile: garbage by the thousand makes a bounded message", () => {
  const toml = Array.from({ length: 5_000 }, (_, i) => `${"x".repeat(100)}${i} = 1`).join("\n");
  const error = failure(() => load(LEAST.replace(/^/, `${toml}\n${"y".repeat(100_000)} = 1\n`)));
  expect(error.message).toContain("wrong in 5001 places");
  expect(error.message).toMatch(/\n\.\.\. and 4901 more$/);
  expect(error.message.length).toBeLessThan(100_000);
});

/** What a user without rights meets. */
class ForbiddenFiles extends MemoryFiles {
  readonly #forbidden: string;

  constructor(forbidden: string, files: Readonly<Record<string, string>>) {
    super(files);
    this.#forbidden = forbidden;
  }

  override read(path: string): Uint8Array | undefined {
    this.#check(path);
    return super.read(path);
  }

  override list(folder: string): readonly string[] {
    this.#check(folder);
    return super.list(folder);
  }

  override mode(path: string): number | undefined {
    this.#check(path);
    return super.mode(path);
  }

  #check(path: string): void {
    if (!path.startsWith(this.#forbidden)) return;
    throw Object.assign(new Error("permission denied"), { code: "EACCES" });
  }
}

test.each([
  ["the file", FILE, `${FILE}: the file cannot be read (EACCES: permission denied)`],
  ["a folder", "/s/conf.d", "/s/conf.d: the folder cannot be read (EACCES: permission denied)"],
  ["a secret", "/k", "auth.password: /k cannot be read (EACCES: permission denied)"],
  [
    "a credential",
    "/cred",
    "/cred/auth.secret: the file cannot be read (EACCES: permission denied)",
  ],
  ["a key", "/p", "tls.ca_file: there is no file /p that can be read; expected a PEM file"],
])("without rights on %s it is a problem like others", (_, forbidden, expected) => {
  const toml = `${LEAST}password_file = "/k"\n[tls]\nca_file = "/p"\n[state]\ndir = "/s"`;
  const files = new ForbiddenFiles(forbidden, { [FILE]: toml, "/k": "k", "/p": "p" });
  const environment = { CREDENTIALS_DIRECTORY: "/cred" };
  expect(failure(() => load("", { files, environment })).message).toContain(expected);
});
