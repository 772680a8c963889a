import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isHoldfastError } from "../../../agent/core/errors.ts";
import type { JsonValue } from "../../../agent/core/json.ts";
import {
  encodeReply,
  finalStatuses,
  parseReply,
  passingStatuses,
  type Reply,
} from "../../../agent/protocol/reply.ts";

const base: Reply = { id: "c1", device: "GID_demo@@@gw-01", at: 1_760_000_000_000, status: "busy" };
const asJson = (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString("utf8"));

describe("replies", () => {
  test.each([
    { ...base, status: "succeeded", result: { a: [1, null, "\ud800"] } },
    { ...base, status: "failed", error: { code: "x", message: "y", details: { n: 1 } } },
    { ...base, status: "busy", error: { code: "busy", message: "y" }, retryAfterMs: 1_000 },
    { ...base, status: "running", progress: 0.5 },
    { ...base, status: "succeeded", result: "a", part: { n: 1, of: 2 } },
  ] satisfies Reply[])("come back as they were made: $status", (reply) => {
    expect(parseReply(encodeReply(reply))).toEqual(reply);
  });

  test("carry v and whether they are final", () => {
    for (const status of finalStatuses) {
      expect(asJson(encodeReply({ ...base, status }))).toMatchObject({ v: 1, final: true });
    }
    for (const status of passingStatuses) {
      expect(asJson(encodeReply({ ...base, status }))).toMatchObject({ v: 1, final: false });
    }
  });

  test("are never made of what the other side would refuse to read", () => {
    const cycle: Record<string, unknown> = {};
    cycle["self"] = cycle;
    const deep: unknown = JSON.parse(`${"[".repeat(80)}${"]".repeat(80)}`);
    const own = JSON.parse(`{"__proto__":1}`);
    for (const result of [cycle, 10n, deep, own, 2 ** 53, { toJSON: () => cycle }]) {
      const reply = { ...base, status: "succeeded", result: result as JsonValue } as const;
      expect(() => encodeReply(reply)).toThrowError(
        expect.objectContaining({ code: "json_invalid" }),
      );
    }
  });
});

describe("a reply from a stranger", () => {
  const good = asJson(encodeReply({ ...base, status: "succeeded" }));

  test.each([
    { v: 2 },
    { id: "a b" },
    { id: 1 },
    { device: "" },
    { at: "now" },
    { status: "done" },
    { status: "toString" },
    { final: false },
    { final: undefined },
    { error: "x" },
    { error: { code: 1, message: "" } },
    { error: { code: "", message: "", details: [] } },
    { retryAfterMs: -1 },
    { part: { n: 0, of: 1 } },
    { part: { n: 2, of: 1 } },
    { part: [] },
  ])("with %j is refused", (wrong) => {
    const bytes = Buffer.from(JSON.stringify({ ...good, ...wrong }));
    expect(() => parseReply(bytes)).toThrowError(
      expect.objectContaining({ code: "envelope_invalid" }),
    );
  });

  test("of any bytes is read or refused with a code of ours", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.json().map((t) => Buffer.from(t)),
        ),
        (bytes) => {
          try {
            parseReply(bytes);
          } catch (error) {
            expect(isHoldfastError(error)).toBe(true);
          }
        },
      ),
    );
  });
});
