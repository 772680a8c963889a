import { inspect } from "node:util";
import { expect, test } from "vitest";
import {
  agentTable,
  getValue,
  type LoadedConfig,
  renderConfig,
  renderDocs,
  Secret,
  setValue,
} from "../../../agent/config/config.ts";
import { MemoryFiles } from "../../support/memory-files.ts";
import { FILE, failure, LEAST, load, SECRET, sources } from "./agent.ts";

const WITHOUT = LEAST.replace(/^secret.*\n/m, "");
const reveal = ({ config }: LoadedConfig): string | undefined => config.auth.secret?.reveal();

test("a secret shows itself to nobody but who asks for it", () => {
  const secret = new Secret(SECRET);
  const printed = [
    `${secret}`,
    String(secret),
    JSON.stringify({ secret }),
    inspect(secret),
    inspect({ a: [secret] }, { showHidden: true, depth: 9 }),
  ];
  for (const text of printed) expect(text).not.toContain(SECRET);
  expect(secret.reveal()).toBe(SECRET);
});

test("a secret may be inline, in a file, a credential, a variable or a flag", () => {
  const files = new MemoryFiles({
    "/etc/holdfast/s": `${SECRET}\n`,
    "/cred/auth.secret": "credential",
  });
  expect(reveal(load(LEAST))).toBe(SECRET);
  expect(reveal(load(`${WITHOUT}secret_file = "s"`, { files }))).toBe(SECRET);
  const environment: Record<string, string> = { CREDENTIALS_DIRECTORY: "/cred" };
  expect(reveal(load("", { files, environment }))).toBe("credential");
  environment["HOLDFAST_AUTH__SECRET_FILE"] = "/etc/holdfast/s";
  expect(reveal(load("", { files, environment }))).toBe(SECRET);
  expect(reveal(load("", { files, environment, flags: ["auth.secret=flag"] }))).toBe("flag");
});

test("systemd's own permissions on credentials are trusted", () => {
  const files = new MemoryFiles({ [FILE]: WITHOUT });
  files.set("/cred/auth.secret", SECRET, 0o440);
  expect(reveal(load("", { files, environment: { CREDENTIALS_DIRECTORY: "/cred" } }))).toBe(SECRET);
});

test.each([[0o640], [0o604], [0o644], [0o660]])(
  "mode %o is refused for what holds a secret",
  (mode) => {
    const octal = `0${mode.toString(8)}`;
    const inline = new MemoryFiles();
    inline.set(FILE, LEAST, mode);
    const error = failure(() => load("", { files: inline }));
    expect(error.code).toBe("secret_exposed");
    expect(error.message).toContain(
      `${FILE}: auth.secret: group or others can read this file (mode ${octal})`,
    );
    expect(error.message).toContain(`chmod 600 ${FILE}`);

    const byFile = new MemoryFiles();
    byFile.set(FILE, `${WITHOUT}secret_file = "/s"`, mode);
    byFile.set("/s", SECRET, mode);
    expect(failure(() => load("", { files: byFile })).message).toContain("chmod 600 /s");
    byFile.set("/s", SECRET, 0o400);
    expect(reveal(load("", { files: byFile }))).toBe(SECRET);
  },
);

test("a private key of TLS is a secret too, and a hidden one in a weaker file still is", () => {
  const files = new MemoryFiles({
    [FILE]: `${LEAST}[tls]\ncert_file = "/c"\nkey_file = "/k"`,
    "/c": "c",
  });
  files.set("/k", "k", 0o644);
  expect(failure(() => load("", { files })).message).toContain("chmod 600 /k");
  files.set("/k", "k", 0o600);
  files.set("/etc/holdfast/conf.d/a.toml", `auth.secret = "${SECRET}"`, 0o644);
  const hidden = { files, flags: ["auth.secret=other"] };
  expect(failure(() => load("", hidden)).code).toBe("secret_exposed");
});

test("a file without secrets may be read by all", () => {
  const files = new MemoryFiles({ "/s": SECRET });
  files.set(FILE, `${WITHOUT}secret_file = "/s"`, 0o644);
  expect(reveal(load("", { files }))).toBe(SECRET);
});

test.each([
  [
    "both ways",
    `${LEAST}secret_file = "/s"`,
    `${FILE}:6: auth.secret: secret and secret_file are both given`,
  ],
  [
    "no such file",
    `${WITHOUT}secret_file = "/none"`,
    "there is no file /none; expected one with the secret",
  ],
  [
    "an empty file",
    `${WITHOUT}secret_file = "/empty"`,
    "/empty is empty; expected the secret in it",
  ],
  ["empty", `${WITHOUT}secret = ""`, ":5: auth.secret: it is empty; expected the secret"],
  [
    "no string",
    `${WITHOUT}secret = 271828182845`,
    ":5: auth.secret: it is not a string; expected a string in quotes",
  ],
  [
    "password in a URL",
    `${LEAST}[service]\nendpoints = ["mqtt://me:${SECRET}@host"]`,
    "expected a URL without a user name or password",
  ],
])("refused: %s", (_, toml, expected) => {
  const files = new MemoryFiles({ [FILE]: toml, "/s": SECRET, "/empty": "\n" });
  const { message } = failure(() => load("", { files }));
  expect(message).toContain(expected);
  expect(message).not.toMatch(/271828|never-shown/);
});

test("no rendering and no error of a configuration shows a secret", () => {
  const files = new MemoryFiles({
    [FILE]: `${LEAST}password = "${SECRET}"\n`,
    "/b": SECRET,
    "/etc/holdfast/conf.d/a.toml": `auth.source_bearer_file = "/b"`,
  });
  const loaded = load("", { files, flags: [`auth.secret=${SECRET}`] });
  const rendered = [
    renderConfig(agentTable, loaded, { origin: true }),
    renderConfig(agentTable, loaded, { origin: false }),
    renderDocs(agentTable),
    JSON.stringify(getValue(loaded, "auth")),
    String(getValue(loaded, "auth.secret")),
    JSON.stringify(loaded),
    JSON.stringify([...loaded.origins]),
    inspect(loaded, { depth: 20, showHidden: true }),
  ];
  for (const text of rendered) expect(text).not.toContain(SECRET);
  expect(rendered[0]).toContain('secret = "***"  # --set auth.secret');
  // Every one of these is wrong in its own way, with the secret in it.
  for (const flag of [
    `auth.secert=${SECRET}`,
    `auth.secret.x=${SECRET}`,
    `auth.secret_files=${SECRET}`,
  ]) {
    const { message } = failure(() => load("", { files, flags: [flag] }));
    expect(message).not.toContain(SECRET);
  }
  const environment = { HOLDFAST_AUTH__SECRET__X: SECRET };
  expect(failure(() => load("", { files, environment })).message).not.toContain(SECRET);
});

test("set keeps a secret in a private file and its file name out of the loaded object", () => {
  const files = new MemoryFiles({ [FILE]: `${WITHOUT}[state]\ndir = "/s"`, "/cwd/k": SECRET });
  const given = { ...sources(), flags: [] };
  const first = setValue(given, { key: "auth.secret_file", value: "k" }, files);
  expect(reveal(first.loaded)).toBe(SECRET);
  expect(files.text(first.file)).toContain('secret_file = "/cwd/k"');
  setValue(given, { key: "auth.secret", value: "other" }, files);
  expect(files.text(first.file)).not.toContain("secret_file");
  expect(files.mode(first.file)).toBe(0o600);
  expect(reveal(load("", { files }))).toBe("other");
});

test("a secret's file that a stronger source hides need not be there", () => {
  const toml = `${WITHOUT}secret_file = "/gone"`;
  expect(reveal(load(toml, { flags: ["auth.secret=given"] }))).toBe("given");
});
