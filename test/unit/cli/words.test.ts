/** From words to subcommands: help, wrong usage, exit statuses. */
import { describe, expect, test } from "vitest";
import { registry } from "../../../agent/cli/registry.ts";
import type { LazySubcommand, Subcommand } from "../../../agent/cli/subcommand.ts";
import {
  argument,
  decimal,
  defineGroup,
  defineSubcommand,
  exit,
  flag,
  integer,
  oneOf,
  option,
  optionalArgument,
  repeated,
  restArguments,
  text,
} from "../../../agent/cli/subcommand.ts";
import { type ErrorCode, HoldfastError } from "../../../agent/core/errors.ts";
import { cli } from "./fixture.ts";

const lazy = (subcommand: Subcommand): LazySubcommand[] => [
  { name: subcommand.name, summary: subcommand.summary, load: async () => subcommand },
];

/** Prints what it was given. */
const echo = defineSubcommand({
  name: "echo",
  summary: "Echo.",
  arguments: {
    first: argument("FIRST", "one"),
    second: optionalArgument("SECOND", "two", integer({ min: -5 })),
  },
  options: {
    maxAge: option({ value: "S", doc: "age", parse: decimal({ min: 0, max: 10 }) }),
    mode: option({ value: "M", doc: "mode", parse: oneOf(["a", "b"]), default: "a" }),
    set: repeated({ value: "X", doc: "set", parse: text }),
    noWait: flag("do not wait"),
    json: flag("json", { short: "j" }),
  },
  async run(input, context) {
    context.stdout.write(JSON.stringify(input));
    return exit.done;
  },
});

async function echoed(...argv: string[]): Promise<unknown> {
  const { status, out, err } = await cli(["echo", ...argv], {}, lazy(echo));
  expect([status, err]).toEqual([0, ""]);
  return JSON.parse(out);
}

describe("what run is given", () => {
  test("defaults", async () => {
    expect(await echoed("x")).toEqual({
      arguments: { first: "x" },
      options: { mode: "a", set: [], noWait: false, json: false },
    });
  });

  test("everything", async () => {
    const words = "x -3 --max-age 0.5 --mode b --set p=1 --set q=2 --no-wait -j";
    expect(await echoed(...words.split(" "))).toEqual({
      arguments: { first: "x", second: -3 },
      options: { maxAge: 0.5, mode: "b", set: ["p=1", "q=2"], noWait: true, json: true },
    });
  });

  test("words behind -- are never options", async () => {
    expect(await echoed("--", "--json")).toMatchObject({ arguments: { first: "--json" } });
  });

  test("the rest of the line", async () => {
    const rest = defineSubcommand({
      name: "echo",
      summary: "Echo.",
      arguments: { devices: restArguments("DEVICE", "whom") },
      run: async (input, context) => {
        context.stdout.write(input.arguments.devices.join("+"));
        return exit.done;
      },
    });
    expect((await cli(["echo", "a", "b"], {}, lazy(rest))).out).toBe("a+b");
    expect((await cli(["echo"], {}, lazy(rest))).status).toBe(2);
  });
});

describe("wrong usage is exit 2, says what, and names the help", () => {
  test.each([
    [["echo"], "FIRST"],
    [["echo", "x", "y"], "whole number"],
    [["echo", "x", "-6"], "at least -5"],
    [["echo", "x", "1", "y"], "too many"],
    [["echo", "x", "--max-age", "11"], "from 0 to 10"],
    [["echo", "x", "--max-age", "1e1"], "a number"],
    [["echo", "x", "--max-age"], "missing"],
    [["echo", "x", "--mode", "c"], "one of a, b"],
    [["echo", "x", "--jsno"], "--json"],
    [["ecko"], "echo"],
  ])("%j", async (argv, says) => {
    const { status, out, err } = await cli(argv, {}, lazy(echo));
    expect([status, out]).toEqual([2, ""]);
    expect(err).toMatch(/^holdfast: usage: /);
    expect(err).toContain(says);
    expect(err).toMatch(/^See: holdfast (echo )?--help$/m);
  });

  test("nothing at all shows the help on stderr", async () => {
    const { status, out, err } = await cli([], {}, lazy(echo));
    expect([status, out]).toEqual([2, ""]);
    expect(err).toContain("Usage: holdfast");
  });

  test("a group alone, and an unknown name in it", async () => {
    const group = defineGroup({ name: "group", summary: "Group.", subcommands: [echo] });
    const alone = await cli(["group"], {}, lazy(group));
    expect([alone.status, alone.out]).toEqual([2, ""]);
    expect(alone.err).toContain("Usage: holdfast group");
    const wrong = await cli(["group", "ehco"], {}, lazy(group));
    expect([wrong.status, wrong.out]).toEqual([2, ""]);
    expect(wrong.err).toContain("Did you mean echo?");
    expect((await cli(["group", "echo", "x"], {}, lazy(group))).status).toBe(0);
  });
});

describe("exit statuses", () => {
  const failing = (error: unknown): LazySubcommand[] =>
    lazy(defineSubcommand({ name: "fail", summary: "Fail.", run: () => Promise.reject(error) }));

  test.each<[ErrorCode, number]>([
    ["usage", 2],
    ["config_invalid", 2],
    ["secret_exposed", 2],
    ["session_change_refused", 2],
    ["unreachable", 3],
    ["timed_out", 3],
    ["lane_full", 1],
    ["store_locked", 1],
    ["not_found", 1],
  ])("%s is %i", async (code, status) => {
    const outcome = await cli(["fail"], {}, failing(new HoldfastError(code, "Said so.")));
    expect(outcome).toEqual({ status, out: "", err: `holdfast: ${code}: Said so.\n` });
  });

  test("the cause is told on a line of its own", async () => {
    const error = new HoldfastError("store_locked", "Held.", { cause: new Error("inner") });
    expect((await cli(["fail"], {}, failing(error))).err).toContain("  because: inner\n");
  });

  test("what nobody foresaw is 1 and asks for a report", async () => {
    const { status, err } = await cli(["fail"], {}, failing(new TypeError("oops")));
    expect(status).toBe(1);
    expect(err).toContain("bug");
    expect(err).toContain("TypeError: oops");
  });

  test.each([1, 2, 3] as const)("what run returns: %i", async (status) => {
    const returns = defineSubcommand({ name: "r", summary: "R.", run: async () => status });
    expect((await cli(["r"], {}, lazy(returns))).status).toBe(status);
  });
});

describe("help", () => {
  test("--version and -V", async () => {
    for (const word of ["--version", "-V"]) {
      expect(await cli([word])).toEqual({ status: 0, out: "holdfast 9.8.7\n", err: "" });
    }
  });

  test("the program's help names every subcommand with its summary", async () => {
    const { status, out, err } = await cli(["--help"], { columns: 200 });
    expect([status, err]).toEqual([0, ""]);
    for (const { name, summary } of registry) {
      expect(out).toMatch(new RegExp(`^ +${name} .*`, "m"));
      expect(out).toContain(summary);
    }
  });

  test("no subcommand is loaded that is not asked for", async () => {
    const loaded: string[] = [];
    const spied = registry.map((each) => ({
      ...each,
      load: () => {
        loaded.push(each.name);
        return each.load();
      },
    }));
    await cli(["--help"], {}, spied);
    await cli(["version"], {}, spied);
    expect(loaded).toEqual(["version"]);
  });

  test.each(registry.map(({ name }) => name))("of %s and all below it", async (name) => {
    const entry = registry.find((each) => each.name === name);
    const declared = await entry?.load();
    expect([declared?.name, declared?.summary]).toEqual([name, entry?.summary]);
    if (declared) await checkHelp(declared, [name]);
    const { out } = await cli(["help", name]);
    expect(out).toBe((await cli([name, "--help"])).out);
  });

  async function checkHelp(declared: Subcommand, path: string[]): Promise<void> {
    const { status, out, err } = await cli([...path, "--help"], { columns: 500 });
    expect([status, err]).toEqual([0, ""]);
    expect(out).toContain(`Usage: holdfast ${path.join(" ")}`);
    expect(out).toContain(declared.summary);
    for (const { command, doc } of declared.examples ?? []) {
      expect(out).toContain(`  # ${doc}\n  holdfast ${command}`);
      expect(command.startsWith(path.join(" "))).toBe(true);
    }
    for (const { name, doc } of Object.values(declared.arguments ?? {})) {
      expect(out).toMatch(new RegExp(`^ +${name} +\\S`, "m"));
      expect(out).toContain(doc);
    }
    for (const spec of Object.values(declared.options ?? {})) {
      if (!spec.hidden) expect(out).toContain(spec.doc);
    }
    for (const child of declared.subcommands ?? []) await checkHelp(child, [...path, child.name]);
    // Whoever runs shows how; a group shows its members instead.
    if (declared.run) expect(declared.examples?.length).toBeGreaterThan(0);
  }
});
