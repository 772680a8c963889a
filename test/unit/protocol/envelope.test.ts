import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { limits } from "../../../agent/core/limits.ts";
import {
  type CommandEnvelope,
  encodeCommand,
  type ParsedCommand,
  parseCommand,
} from "../../../agent/protocol/envelope.ts";

const own = "GID_demo@@@gw-01";
const recipient = { ownClientId: own, profile: "lmq" } as const;
const good: CommandEnvelope = {
  id: "01J8ZQ4Y6V0000000000000000",
  to: own,
  from: "GID_demo@@@console-1",
  command: "system.ping",
  params: { text: "hällo" },
  issuedAt: 1_760_000_000_000,
  expiresAt: 1_760_000_060_000,
};

function parse(payload: unknown): ParsedCommand {
  const text = typeof payload === "string" ? payload : JSON.stringify(payload);
  return parseCommand(Buffer.from(text, "utf8"), recipient);
}

describe("a command that is well-formed", () => {
  test("comes back as it was made", () => {
    const full = { ...good, replyTo: "GW_UP/reply/x", nonce: "n", progress: true };
    for (const envelope of [good, full]) {
      const parsed = parseCommand(encodeCommand(envelope), recipient);
      expect(parsed).toMatchObject({ kind: "command", envelope });
    }
  });

  test("has the digest of its bytes, so that a space makes it another one", () => {
    const text = JSON.stringify({ v: 1, ...good });
    const [a, b, again] = [text, `${text} `, text].map(parse);
    expect(a).toHaveProperty("digest", (again as { digest: string }).digest);
    expect(a).not.toHaveProperty("digest", (b as { digest: string }).digest);
  });

  test("needs no params, and members that are not known do not matter", () => {
    const { params: _, ...rest } = good;
    expect(parse({ v: 1, ...rest, future: [1] })).toMatchObject({
      kind: "command",
      envelope: { ...rest, params: {} },
    });
  });
});

describe("what cannot be read", () => {
  const deep = (depth: number): string => `{"a":${"[".repeat(depth)}${"]".repeat(depth)}}`;
  const text = JSON.stringify({ v: 1, ...good });
  test.each([
    ["nothing", "", "empty"],
    ["a word", "hello world", "not_json"],
    ["half of it", text.slice(0, 40), "not_json"],
    ["a list", "[1]", "not_object"],
    ["null", "null", "not_object"],
    ["depth 33", deep(32), "too_deep"],
    ["depth 20,000", deep(20_000), "too_deep"],
    ["depth 100,000", deep(100_000), "too_large"],
    ["more than the limit", JSON.stringify({ v: "x".repeat(48_640) }), "too_large"],
    ["64 KB of letters", "x".repeat(65_536), "too_large"],
    ["a member __proto__", `{"__proto__":{"from":"GID_demo@@@x"}}`, "forbidden_key"],
    ["__proto__ within params", text.replace('"text"', '"__proto__"'), "forbidden_key"],
    ["a number over 2^53", text.replace('"hällo"', "9007199254740993"), "number_range"],
    ["an infinite number", text.replace('"hällo"', "1e999"), "number_range"],
    ["no sender", JSON.stringify({ v: 1, ...good, from: undefined }), "from_invalid"],
    ["a sender that is no id", JSON.stringify({ v: 1, ...good, from: "x" }), "from_invalid"],
    ["a list as sender", JSON.stringify({ v: 1, ...good, from: [good.from] }), "from_invalid"],
    ["our own id as sender", JSON.stringify({ v: 1, ...good, from: own }), "from_invalid"],
    ["a lone surrogate as sender", text.replace("console-1", "\\ud800"), "from_invalid"],
    ["no id", JSON.stringify({ v: 1, ...good, id: undefined }), "id_invalid"],
    ["an id with a slash", JSON.stringify({ v: 1, ...good, id: "a/b" }), "id_invalid"],
    ["an id of 65", JSON.stringify({ v: 1, ...good, id: "a".repeat(65) }), "id_invalid"],
    ["an id with a line end", JSON.stringify({ v: 1, ...good, id: "a\n" }), "id_invalid"],
  ])("%s", (_name, payload, reason) => {
    expect(parse(payload)).toEqual({ kind: "unreadable", reason });
  });

  test("bytes that are no UTF-8, a lone surrogate in UTF-8 among them", () => {
    for (const bytes of [[0xff], [0x7b, 0xc3, 0x28, 0x7d], [0x22, 0xed, 0xa0, 0x80, 0x22]]) {
      expect(parseCommand(Uint8Array.from(bytes), recipient)).toEqual({
        kind: "unreadable",
        reason: "not_utf8",
      });
    }
  });
});

describe("what can be answered, but not obeyed", () => {
  test.each([
    ["v", 2],
    ["v", "1"],
    ["v", undefined],
    ["command", "system"],
    ["command", "system."],
    ["command", ".ping"],
    ["command", "system.ping.x"],
    ["command", "system ping"],
    ["command", "__proto__.x"],
    ["command", undefined],
    ["params", []],
    ["params", "x"],
    ["params", null],
    ["issuedAt", undefined],
    ["issuedAt", "0"],
    ["issuedAt", 1.5],
    ["issuedAt", -1],
    ["expiresAt", undefined],
    ["expiresAt", good.issuedAt - 1],
    ["expiresAt", 8_640_000_000_000_001],
    ["replyTo", 1],
    ["nonce", "n".repeat(129)],
    ["progress", 1],
  ])("%s = %j", (field, value) => {
    expect(parse({ v: 1, ...good, [field]: value })).toMatchObject({
      kind: "invalid",
      id: good.id,
      from: good.from,
      field,
    });
  });

  test("another device's command is told apart before its form is judged", () => {
    for (const to of ["GID_demo@@@gw-02", undefined, own.toLowerCase(), [own]]) {
      expect(parse({ ...good, to, v: 7 })).toEqual({ kind: "wrong_recipient", from: good.from });
    }
  });
});

test("the compact form of a JWS is recognised, and what only looks like it is not", () => {
  expect(parse("eyJhbGciOiJFZERTQSJ9.eyJ2IjoxfQ.c2ln")).toEqual({ kind: "signed" });
  for (const text of ["a.b", "a.b.c.d", ".b.c", "a..c", "a.b.", "a.b.c=", "a b.c.d"]) {
    expect(parse(text)).toEqual({ kind: "unreadable", reason: "not_json" });
  }
});

describe("any bytes at all", () => {
  const kinds = ["command", "invalid", "wrong_recipient", "signed", "unreadable"];

  test("get a verdict and never an exception", () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array(), fc.uint8Array({ maxLength: 2_000 })), (bytes) => {
        expect(kinds).toContain(parseCommand(bytes, recipient).kind);
      }),
    );
  });

  test("neither do mutations of a good command, nor JSON of any shape in its members", () => {
    const member = fc.constantFrom(...Object.keys(good), "replyTo", "v", "progress");
    fc.assert(
      fc.property(member, fc.jsonValue(), fc.nat(), fc.nat(255), (field, value, at, byte) => {
        expect(kinds).toContain(parse({ v: 1, ...good, [field]: value }).kind);
        const bytes = encodeCommand(good).slice();
        bytes[at % bytes.length] = byte;
        expect(kinds).toContain(parseCommand(bytes, recipient).kind);
      }),
      { numRuns: 500 },
    );
  });
});

describe("the sender", () => {
  test("is told what no device would take", () => {
    for (const wrong of [{ id: "a b" }, { command: "x" }, { expiresAt: 0 }, { issuedAt: 0.5 }]) {
      expect(() => encodeCommand({ ...good, ...wrong })).toThrowError(
        expect.objectContaining({ code: "envelope_invalid" }),
      );
    }
    const large = { text: "x".repeat(limits.commandPayloadBytes) };
    expect(() => encodeCommand({ ...good, params: large })).toThrowError(
      expect.objectContaining({ code: "payload_too_large" }),
    );
    const deep = JSON.parse(`{"a":${"[".repeat(32)}${"]".repeat(32)}}`);
    expect(() => encodeCommand({ ...good, params: deep })).toThrowError(
      expect.objectContaining({ code: "envelope_invalid" }),
    );
  });
});
