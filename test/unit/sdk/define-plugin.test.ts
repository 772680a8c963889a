/** What `definePlugin` refuses at run time, for plugins that no compiler has seen. */
import * as v from "valibot";
import { expect, test } from "vitest";
import { definePlugin, PluginError } from "#sdk";

const verb = { summary: "A verb.", handler: () => null };
const good = { name: "good", version: "1.2.3", commands: { run: verb } };

function definePluginUnchecked(definition: unknown) {
  return definePlugin(definition as Parameters<typeof definePlugin>[0]);
}

test("a sound plugin passes as it is", () => {
  expect(definePluginUnchecked(good)).toBe(good);
});

test.each([
  ["nothing", undefined, "is given an object"],
  ["no name", { ...good, name: undefined }, "name is"],
  ["a name with a dot", { ...good, name: "a.b" }, "name is"],
  ["a name that is too long", { ...good, name: "a".repeat(33) }, "name is"],
  ["no version", { ...good, version: "1" }, "good: version"],
  ["no commands", { ...good, commands: null }, "good: commands"],
  ["a verb in capitals", { ...good, commands: { Run: verb } }, "good.Run: a verb"],
  [
    "a verb without a handler",
    { ...good, commands: { run: { summary: "x" } } },
    "good.run: handler",
  ],
  [
    "an empty summary",
    { ...good, commands: { run: { ...verb, summary: "" } } },
    "good.run: summary",
  ],
  ["a plain object as schema", { ...good, commands: { run: { ...verb, params: {} } } }, "params"],
  ["a result that is no schema", { ...good, commands: { run: { ...verb, result: 1 } } }, "result"],
  ["a config that is no schema", { ...good, config: { path: "string" } }, "good: config"],
  ["a deadline of 0", { ...good, commands: { run: { ...verb, deadlineMs: 0 } } }, "deadlineMs"],
  ["reads only once", { ...good, commands: { run: { ...verb, readsOnly: true } } }, "readsOnly"],
  ["65 at once", { ...good, commands: { run: { ...verb, concurrency: 65 } } }, "concurrency"],
  ["a start that is no function", { ...good, start: true }, "good: start"],
])("refuses %s", (_what, definition, named) => {
  expect(() => definePluginUnchecked(definition)).toThrow(
    expect.objectContaining({
      name: "PluginError",
      code: "plugin_invalid",
      message: expect.stringContaining(named),
    }),
  );
});

test("takes a schema that is a function, as arktype's are", () => {
  const schema = Object.assign(() => undefined, { "~standard": v.object({})["~standard"] });
  definePluginUnchecked({ ...good, commands: { run: { ...verb, params: schema } } });
});

test("a PluginError carries code, message and details", () => {
  const error = new PluginError("too_hot", "The board is too hot.", { tempC: 91 });
  expect(error).toMatchObject({ code: "too_hot", message: "The board is too hot." });
  expect(error.details).toEqual({ tempC: 91 });
});
