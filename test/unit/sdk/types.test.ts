/** The types of the sdk, as an author's compiler sees them: a typo must not compile. */
import * as v from "valibot";
import { expect, expectTypeOf, test } from "vitest";
import { definePlugin, type NoParams, type Schema } from "#sdk";

const Level = v.object({ level: v.optional(v.number(), 3), name: v.string() });

/** A schema of no library, as the interface alone allows it. */
const text: Schema<string, number> = {
  "~standard": {
    version: 1,
    vendor: "hand",
    validate: (value) =>
      typeof value === "string" ? { value: value.length } : { issues: [{ message: "no text" }] },
  },
};

test("parameters, results and configuration reach the handler typed, without a cast", () => {
  const plugin = definePlugin({
    name: "typed",
    version: "1.0.0",
    config: v.object({ path: v.string() }),
    commands: {
      set: {
        summary: "With both schemas.",
        params: Level,
        result: v.object({ was: v.number() }),
        handler(params, context) {
          expectTypeOf(params).toEqualTypeOf<{ level: number; name: string }>();
          expectTypeOf(context.config).toEqualTypeOf<{ path: string }>();
          expectTypeOf(context.signal).toEqualTypeOf<AbortSignal>();
          return { was: params.level };
        },
      },
      later: {
        summary: "An arrow and a promise.",
        params: Level,
        result: v.array(v.string()),
        handler: async ({ name }) => [name],
      },
      plain: {
        summary: "No schema at all.",
        handler(params) {
          expectTypeOf(params).toEqualTypeOf<NoParams>();
          return "anything";
        },
      },
      own: {
        summary: "A schema of no library.",
        params: text,
        handler(params) {
          expectTypeOf(params).toEqualTypeOf<number>();
        },
      },
    },
    start(context) {
      expectTypeOf(context.config).toEqualTypeOf<{ path: string }>();
    },
  });
  expect(Object.keys(plugin.commands)).toEqual(["set", "later", "plain", "own"]);
});

test("a typo is a compile error", () => {
  // Never called: the expectations are the compiler's, and `tsc` fails when one of them is not met.
  const typos = () => {
    definePlugin({
      name: "typos",
      version: "1.0.0",
      commands: {
        wrong_param: {
          summary: "Reads a parameter that does not exist.",
          params: Level,
          handler(params) {
            // @ts-expect-error there is no levle
            return params.levle;
          },
        },
      },
    });
    definePlugin({
      name: "typos",
      version: "1.0.0",
      commands: {
        wrong_result: {
          summary: "Answers with something else than it says.",
          result: v.object({ was: v.number() }),
          // @ts-expect-error was is a number
          handler: () => ({ was: "a text" }),
        },
        no_params: {
          summary: "Takes none, reads one.",
          // @ts-expect-error there is no such parameter
          handler: (params) => params.level.toFixed(),
        },
      },
    });
    definePlugin({
      name: "typos",
      version: "1.0.0",
      // @ts-expect-error there is no handler
      commands: { nothing: { summary: "Nothing to run." } },
    });
  };
  expect(typos).toBeTypeOf("function");
});
