/** What is added to cloud.toml: the text stays, the new lines fit, and what does not fit is not written. */
import { describe, expect, it } from "vitest";
import { type Change, type CloudSources, changeConfig, readChange } from "../../../cloud/cloud.ts";
import { MemoryFiles } from "../../support/memory-files.ts";

const file = "/c/cloud.toml";
const sources: CloudSources = { file, environment: {}, flags: [], workingFolder: "/c" };
const accounts = '[[accounts]]\naccess_key = "AK"\nsecret = "SK"\n';
const topic = '[[instance.topics]]\nname = "GW_UP"\n';

function add(text: string, change: Change) {
  const files = new MemoryFiles({ [file]: text });
  const { added, directory } = changeConfig(sources, change, files);
  return { added, directory, text: files.text(file) ?? "" };
}

const group: Change = { kind: "group", name: "GID_site" };

describe("a group gets into its list", () => {
  it.each([
    ["of one line", 'groups = ["GID_demo"]', 'groups = ["GID_demo", "GID_site"]'],
    ["that is empty", "groups = []", 'groups = ["GID_site"]'],
    [
      "of many lines, with a comment and a comma at the end",
      'groups = [\n  "GID_demo", # the "first"]\n]',
      'groups = [\n  "GID_demo", "GID_site" # the "first"]\n]',
    ],
    [
      "without that comma",
      "groups = [\n  'GID_demo' # ]\n]",
      "groups = [\n  'GID_demo', \"GID_site\" # ]\n]",
    ],
  ])("%s", (_, before, after) => {
    const whole = (list: string): string =>
      `# mine\n${accounts}\n[instance] # the one\nid = "x"\n${list}\n\n${topic}`;
    const { added, text, directory } = add(whole(before), group);
    expect(added).toBe(true);
    expect(text).toBe(whole(after));
    expect(directory.groups).toContain("GID_site");
  });

  it("that is not there yet, in its section or without one", () => {
    const inSection = add(`${accounts}[instance]\nid = "x"\n${topic}`, group);
    expect(inSection.text).toContain('[instance]\ngroups = ["GID_site"]\nid = "x"');
    expect(add(`${accounts}${topic}`, group).directory.topics.has("GW_UP")).toBe(true);
  });
});

describe("a topic and an account are added at the end", () => {
  it("and nothing before them changes", () => {
    const before = `${accounts}[instance]\ngroups = ["GID_demo"]\n${topic}[limits]\nsubscriptions = 3`;
    const first = add(before, { kind: "topic", name: "GW_NEW", ordered: true });
    expect(first.text.startsWith(before)).toBe(true);
    expect(first.directory.topics.get("GW_NEW")).toEqual({ ordered: true });
    expect(first.directory.topics.has("GW_UP")).toBe(true);
    const second = add(first.text, { kind: "account", name: "AK2", secret: 'a"b\\c' });
    expect(second.directory.accounts.get("AK2")).toBe('a"b\\c');
    expect(second.directory.accounts.get("AK")).toBe("SK");
  });
});

describe("nothing is written", () => {
  const whole = `${accounts}[instance]\ngroups = ["GID_demo"]\n${topic}`;

  it("for what is there already", () => {
    for (const change of [
      { kind: "group", name: "GID_demo" },
      { kind: "topic", name: "GW_UP", ordered: false },
      { kind: "account", name: "AK", secret: "SK" },
    ] as const) {
      expect(add(whole, change)).toMatchObject({ added: false, text: whole });
    }
  });

  it.each([
    ["a topic of the other kind", { kind: "topic", name: "GW_UP", ordered: true }],
    ["an account with another secret", { kind: "account", name: "AK", secret: "other" }],
  ] as const)("for %s, which is refused", (_, change) => {
    const files = new MemoryFiles({ [file]: whole });
    expect(() => changeConfig(sources, change, files)).toThrow(/is there already/);
    expect(files.text(file)).toBe(whole);
  });

  it("into a file of a form that cannot be added to, and the lines are told", () => {
    const inline = `${accounts}[instance]\ntopics = [{ name = "GW_UP" }]\n`;
    const files = new MemoryFiles({ [file]: inline });
    const change: Change = { kind: "topic", name: "GW_NEW", ordered: false };
    expect(() => changeConfig(sources, change, files)).toThrow(
      /write this into it:\n\[\[instance.topics\]\]\nname = "GW_NEW"/,
    );
    expect(files.text(file)).toBe(inline);
  });

  it("into a file that is wrong", () => {
    const files = new MemoryFiles({ [file]: `${whole}nonsense = 1\n` });
    expect(() => changeConfig(sources, group, files)).toThrow(/nonsense/);
  });
});

it.each([
  ["no name", { kind: "topic" }],
  ["a topic with a slash", { kind: "topic", name: "a/b" }],
  ["a group without its prefix", { kind: "group", name: "demo" }],
  ["an account without a secret", { kind: "account", name: "AK2" }],
  ["an account with a space in its secret", { kind: "account", name: "AK2", secret: "a b" }],
  ["another kind", { kind: "device", name: "x" }],
  ["nothing", null],
])("%s is no change", (_, value) => {
  expect(() => readChange(value)).toThrow(/\.$/);
});
