/** How a call ends, whatever the command and the handler are. */
import { getEventListeners } from "node:events";
import fc from "fast-check";
import * as v from "valibot";
import { expect, test } from "vitest";
import { HoldfastError } from "../../../agent/core/errors.ts";
import { parseJson } from "../../../agent/core/json.ts";
import { definePlugin, type Plugin, PluginError, type Schema } from "../../../agent/sdk/sdk.ts";
import { waitFor } from "../../support/wait-for.ts";
import { command, hosting, never } from "./support.ts";

/** A plugin `p` whose one verb `run` does this. */
function doing(handler: (params: never, context: never) => unknown): Plugin {
  return definePlugin({
    name: "p",
    version: "1.0.0",
    commands: { run: { summary: "Runs.", handler } },
  });
}

async function run(handler: (params: never, context: never) => unknown) {
  const { host } = hosting([doing(handler)]);
  await host.start(never);
  return host.dispatch(command("p.run"), never);
}

test("the result of a handler is the result of the command", async () => {
  expect(await run(() => ({ a: [1, "x", null, true] }))).toEqual({
    status: "succeeded",
    result: { a: [1, "x", null, true] },
  });
});

test.each([
  ["undefined", undefined, null],
  ["a date", new Date(0), "1970-01-01T00:00:00.000Z"],
  ["an undefined member", { a: 1, b: undefined }, { a: 1 }],
  ["an object without a prototype", Object.assign(Object.create(null), { a: 1 }), { a: 1 }],
])("%s becomes JSON", async (_what, given, expected) => {
  expect(await run(() => given)).toEqual({ status: "succeeded", result: expected });
});

const cycle: { self?: unknown } = {};
cycle.self = cycle;
const throwing = {
  get bad() {
    throw new Error("getter");
  },
};
test.each([
  ["a function", () => undefined, "result is a function"],
  ["NaN deep inside", { list: [1, Number.NaN] }, "result.list[1] is NaN"],
  ["a bigint", { n: 1n }, "result.n is a bigint"],
  ["a symbol", Symbol("x"), "a symbol"],
  ["a map", { m: new Map() }, "result.m is a Map"],
  ["bytes", new Uint8Array(3), "Uint8Array"],
  ["a cycle", cycle, "nested deeper"],
  ["a hole", [undefined], "result[0] is undefined"],
  ["an integer that is rounded", { n: 2 ** 53 }, "result.n is an integer over 2^53"],
  ["__proto__", JSON.parse('{"__proto__":1}'), "__proto__"],
  ["a getter that throws", throwing, "throws when it is read"],
  ["too many values", new Array(100_001).fill(0), "more than 100000 values"],
])("%s as the answer fails the command and says where", async (_what, given, named) => {
  expect(await run(() => given)).toMatchObject({
    status: "failed",
    error: { code: "handler_failed", message: expect.stringContaining(named) },
  });
});

test("what any handler returns or throws, the outcome is one that a receiver can read", async () => {
  const anything = fc.anything({
    withBigInt: true,
    withDate: true,
    withMap: true,
    withNullPrototype: true,
    withSparseArray: true,
    withTypedArray: true,
    withUnicodeString: true,
  });
  await fc.assert(
    fc.asyncProperty(anything, fc.boolean(), async (value, throws) => {
      const outcome = await run(() => {
        if (throws) throw value;
        return value;
      });
      expect(throws ? ["failed"] : ["failed", "succeeded"]).toContain(outcome.status);
      const bytes = Buffer.from(JSON.stringify(outcome));
      expect(parseJson(bytes, { maxBytes: 1e6, maxDepth: 32 })).toBeTypeOf("object");
    }),
    { numRuns: 200 },
  );
});

test.each([
  ["an error", new Error("disk gone"), "handler_failed", "disk gone"],
  ["nothing", undefined, "handler_failed", "cannot be shown|can be shown"],
  ["null", null, "handler_failed", ""],
  ["a text", "oops", "handler_failed", "oops"],
  ["an error of the agent", new HoldfastError("lane_full", "Full."), "lane_full", "Full."],
  ["a plugin error", new PluginError("too_hot", "91 degrees"), "too_hot", "91 degrees"],
  ["a plugin error with a bad code", new PluginError("Too Hot!", "x"), "handler_failed", "x"],
])("a handler that throws %s fails with a code", async (_what, thrown, code, message) => {
  const outcome = await run(() => {
    throw thrown;
  });
  expect(outcome).toMatchObject({
    status: "failed",
    error: { code, message: expect.stringMatching(message) },
  });
});

test("details of a plugin error reach the commander, if they are JSON", async () => {
  const details = await run(() => Promise.reject(new PluginError("hot", "x", { tempC: 91 })));
  expect(details).toMatchObject({ error: { code: "hot", details: { tempC: 91 } } });
  const bad = { f: () => 1 } as never;
  const dropped = await run(() => Promise.reject(new PluginError("hot", "x", bad)));
  expect(dropped).toEqual({ status: "failed", error: { code: "hot", message: "x" } });
});

test("a message of any length is cut", async () => {
  const outcome = await run(() => Promise.reject(new Error("x".repeat(100_000))));
  expect(JSON.stringify(outcome).length).toBeLessThan(700);
});

test("unknown plugins and verbs are rejected, names of Object.prototype too", async () => {
  const { host } = hosting([doing(() => 1)]);
  await host.start(never);
  for (const name of ["q.run", "p.walk", "p.", ".run", "p", "", "p.run.x", "p.constructor"]) {
    const outcome = await host.dispatch(command(name), never);
    expect(outcome, name).toMatchObject({ status: "rejected", error: { code: "command_unknown" } });
  }
  const proto = await host.dispatch(command("__proto__.toString"), never);
  expect(proto).toMatchObject({ error: { code: "command_unknown" } });
});

const Params = v.strictObject({
  top: v.optional(v.pipe(v.number(), v.maxValue(50)), 10),
  filter: v.optional(v.object({ users: v.array(v.string()) })),
});

async function withParams(params: object) {
  const plugin = definePlugin({
    name: "p",
    version: "1.0.0",
    commands: { run: { summary: "x", params: Params, handler: ({ top }) => top } },
  });
  const { host } = hosting([plugin]);
  await host.start(never);
  return host.dispatch(command("p.run", params as never), never);
}

test("defaults of the schema reach the handler", async () => {
  expect(await withParams({})).toEqual({ status: "succeeded", result: 10 });
});

test.each([
  [{ top: "many" }, "top", "Expected number"],
  [{ top: 51 }, "top", "<=50"],
  [{ topp: 1 }, "topp", "topp"],
  [{ filter: { users: ["a", 2] } }, "filter.users[1]", "Expected string"],
])(
  "parameters %o are rejected, naming the field and what was expected",
  async (params, field, expected) => {
    expect(await withParams(params)).toMatchObject({
      status: "rejected",
      error: {
        code: "params_invalid",
        message: expect.stringContaining(expected),
        details: { field },
      },
    });
  },
);

test("a verb without a schema takes no parameters", async () => {
  const { host } = hosting([doing((params) => params)]);
  await host.start(never);
  expect(await host.dispatch(command("p.run", {}), never)).toMatchObject({ result: {} });
  expect(await host.dispatch(command("p.run", { x: 1 }), never)).toMatchObject({
    status: "rejected",
    error: { code: "params_invalid", details: { field: "x" } },
  });
});

test("schemas may be asynchronous, and one that throws fails its command only", async () => {
  const schema = (validate: Schema["~standard"]["validate"]): Schema => ({
    "~standard": { version: 1, vendor: "test", validate },
  });
  const plugin = definePlugin({
    name: "p",
    version: "1.0.0",
    commands: {
      slow: {
        summary: "x",
        params: schema(async () => ({ value: "checked" })),
        handler: (params) => params,
      },
      broken: {
        summary: "x",
        params: schema(() => {
          throw new Error("schema bug");
        }),
        handler: () => 1,
      },
    },
  });
  const { host } = hosting([plugin]);
  await host.start(never);
  expect(await host.dispatch(command("p.slow"), never)).toMatchObject({ result: "checked" });
  expect(await host.dispatch(command("p.broken"), never)).toMatchObject({
    status: "failed",
    error: { message: expect.stringContaining("schema bug") },
  });
});

test("an answer that is not as declared fails", async () => {
  const plugin = definePlugin({
    name: "p",
    version: "1.0.0",
    commands: {
      run: { summary: "x", result: v.object({ n: v.number() }), handler: () => ({}) as never },
    },
  });
  const { host } = hosting([plugin]);
  await host.start(never);
  expect(await host.dispatch(command("p.run"), never)).toMatchObject({
    status: "failed",
    error: { code: "handler_failed", message: expect.stringContaining("not as declared") },
  });
});

test.each([
  ["a cancel", undefined, "cancelled", "cancelled"],
  ["a deadline", new HoldfastError("deadline_exceeded"), "failed", "deadline_exceeded"],
  ["a stop of the agent", new HoldfastError("interrupted"), "interrupted", "interrupted"],
])(
  "%s ends the call at once, even if the handler ignores it",
  async (_what, reason, status, code) => {
    const { host } = hosting([doing(() => new Promise(() => undefined))]);
    await host.start(never);
    const abort = new AbortController();
    const outcome = host.dispatch(command("p.run"), abort.signal);
    abort.abort(reason);
    expect(await outcome).toMatchObject({ status, error: { code } });
  },
);

test("the handler's signal aborts with the command", async () => {
  let seen: AbortSignal | undefined;
  const plugin = definePlugin({
    name: "p",
    version: "1.0.0",
    commands: {
      run: {
        summary: "x",
        handler: (_params, { signal }) => {
          seen = signal;
          return new Promise((resolve) => signal.addEventListener("abort", () => resolve(1)));
        },
      },
    },
  });
  const { host } = hosting([plugin]);
  await host.start(never);
  const abort = new AbortController();
  const outcome = host.dispatch(command("p.run"), abort.signal);
  await waitFor(() => seen);
  abort.abort();
  await outcome;
  expect(seen?.aborted).toBe(true);
});

test("a verb's own deadline ends it", async () => {
  const plugin = definePlugin({
    name: "p",
    version: "1.0.0",
    commands: {
      run: { summary: "x", deadlineMs: 5_000, handler: () => new Promise(() => undefined) },
    },
  });
  const { host, clock } = hosting([plugin]);
  await host.start(never);
  expect(host.deadlineMs("p.run")).toBe(5_000);
  const outcome = host.dispatch(command("p.run"), never);
  await clock.advance(5_000);
  expect(await outcome).toMatchObject({
    status: "failed",
    error: { code: "deadline_exceeded", message: expect.stringContaining("5000 ms") },
  });
});

test("calls of a verb beyond its concurrency wait; one that will not end holds nobody for ever", async () => {
  const releases: (() => void)[] = [];
  let running = 0;
  let most = 0;
  const plugin = definePlugin({
    name: "p",
    version: "1.0.0",
    commands: {
      run: {
        summary: "x",
        concurrency: 2,
        handler: async () => {
          most = Math.max(most, ++running);
          await new Promise<void>((resolve) => releases.push(resolve));
          running--;
        },
      },
      other: { summary: "x", idempotent: true, readsOnly: true, handler: () => "free" },
    },
  });
  const { host } = hosting([plugin]);
  await host.start(never);
  expect(host.concurrency("p")).toBe(2);
  expect(["p.run", "p.other", "p.none"].map((name) => host.readsOnly(name))).toEqual([
    false,
    true,
    false,
  ]);
  const abort = new AbortController();
  const calls = [1, 2, 3].map(() => host.dispatch(command("p.run"), abort.signal));
  await waitFor(() => releases.length === 2);
  expect(await host.dispatch(command("p.other"), never)).toMatchObject({ result: "free" });
  releases[0]?.();
  expect(await calls[0]).toMatchObject({ status: "succeeded" });
  await waitFor(() => releases.length === 3);
  expect(most).toBe(2);

  abort.abort(); // Both that run ignore it: their slots stay taken, and the next one is told so.
  await Promise.all(calls);
  expect(await host.dispatch(command("p.run"), never)).toMatchObject({
    status: "failed",
    error: { code: "plugin_failed" },
  });
  for (const release of releases) release();
  await waitFor(() => running === 0);
  const again = host.dispatch(command("p.run"), never);
  await waitFor(() => releases.length === 4);
  releases[3]?.();
  expect(await again).toMatchObject({ status: "succeeded" });
});

test("a call that has ended leaves nothing behind on the signals it listened to", async () => {
  const { host, clock } = hosting([
    definePlugin({
      name: "p",
      version: "1.0.0",
      commands: {
        run: {
          summary: "x",
          deadlineMs: 60_000,
          handler: (_params, { signal }) => signal.addEventListener("abort", () => undefined),
        },
      },
    }),
  ]);
  await host.start(never);
  const long = new AbortController();
  for (let i = 0; i < 50; i++) await host.dispatch(command("p.run"), long.signal);
  expect(getEventListeners(long.signal, "abort")).toEqual([]);
  expect(clock.sleeping).toBe(0);
});
