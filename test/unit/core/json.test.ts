import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HoldfastError } from "../../../agent/core/errors.ts";
import { isJsonObject, jsonDepth, parseJson } from "../../../agent/core/json.ts";

const wide = { maxBytes: 1_000_000, maxDepth: 64 };

/** The reason of the refusal; the parsed value when there was none, so that a test shows it. */
function refusal(input: string | Uint8Array, bounds = wide): unknown {
  const bytes = typeof input === "string" ? new TextEncoder().encode(input) : input;
  try {
    return { accepted: parseJson(bytes, bounds) };
  } catch (error) {
    if (!(error instanceof HoldfastError)) return error;
    expect(error.code).toBe("json_invalid");
    return error.details["reason"];
  }
}

describe("a stranger's bytes are refused with the reason", () => {
  test.each([
    ["too_large", `"${"x".repeat(99)}"`, { maxBytes: 100, maxDepth: 4 }],
    ["not_utf8", Uint8Array.of(0x22, 0xc3, 0x28, 0x22), wide],
    ["not_utf8", Uint8Array.of(0x22, 0xed, 0xa0, 0x80, 0x22), wide], // A surrogate on its own.
    ["not_utf8", Uint8Array.of(0x22, 0xc0, 0xaf, 0x22), wide], // Overlong.
    ["too_deep", "[[[[[1]]]]]", { maxBytes: 100, maxDepth: 4 }],
    ["too_deep", "[".repeat(200_000), wide],
    ["not_json", "", wide],
    ["not_json", "{", wide],
    ["not_json", "{'a':1}", wide],
    ["not_json", "\ufeff{}", wide],
    ["not_json", "NaN", wide],
    ["not_json", "[1,]", wide],
    ["number_range", "1e400", wide],
    ["number_range", "9007199254740993", wide],
    ["number_range", '{"a":[-9007199254740993]}', wide],
    ["forbidden_key", '{"a":{"__proto__":{"admin":true}}}', wide],
    ["forbidden_key", '{"\\u005f_proto__":1}', wide],
  ] as const)("%s: %j", (reason, input, bounds) => {
    expect(refusal(input, bounds)).toBe(reason);
  });

  test("the bounds themselves are allowed", () => {
    expect(refusal(`"${"x".repeat(98)}"`, { maxBytes: 100, maxDepth: 0 })).toHaveProperty(
      "accepted",
    );
    expect(refusal("[[[[1]]]]", { maxBytes: 100, maxDepth: 4 })).toEqual({ accepted: [[[[1]]]] });
    expect(refusal("9007199254740991")).toEqual({ accepted: Number.MAX_SAFE_INTEGER });
  });

  test("any bytes give a value or json_invalid, nothing else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const answer = refusal(bytes);
        expect(typeof answer === "string" || isJsonObject(answer)).toBe(true);
        expect(answer).not.toBeInstanceOf(Error);
      }),
    );
  });
});

const number = fc.oneof(
  fc.maxSafeInteger(),
  fc.double({ noNaN: true, noDefaultInfinity: true, noInteger: true }),
);
const { value: anyJson } = fc.letrec((again) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.string({ unit: "grapheme" }),
    number,
    fc.boolean(),
    fc.constant(null),
    fc.array(again("value"), { maxLength: 4 }),
    fc.dictionary(
      fc.string().filter((key) => key !== "__proto__"),
      again("value"),
      { maxKeys: 4, noNullPrototype: true },
    ),
  ),
}));

test("any JSON value within the bounds comes back as it was", () => {
  fc.assert(
    fc.property(anyJson, fc.constantFrom(0, 2), (value, indent) => {
      const text = JSON.stringify(value, null, indent);
      expect(parseJson(new TextEncoder().encode(text), wide)).toEqual(value);
    }),
    { numRuns: 500 },
  );
});

function depthOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}

test("the depth counted before parsing is the depth after, brackets in strings or not", () => {
  const tricky = fc.constantFrom('"', "\\", '\\"', "[", "{{", "]", '"[', "\\\\[");
  const wrapped = fc.tuple(anyJson, tricky).map(([value, text]) => [{ [text]: [text, value] }]);
  fc.assert(
    fc.property(fc.oneof(anyJson, wrapped), (value) => {
      expect(jsonDepth(JSON.stringify(value))).toBe(depthOf(value));
    }),
  );
});

test("an object is neither null nor an array", () => {
  expect([{}, { a: 1 }].every(isJsonObject)).toBe(true);
  expect([null, [], "x", 1, undefined].some(isJsonObject)).toBe(false);
});
