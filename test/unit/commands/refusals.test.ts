import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type LogFields, type Logger, silentLog } from "../../../agent/core/log.ts";
import { console1, device, Rig } from "./rig.ts";

const encode = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));

async function answerTo(fields: Record<string, unknown>, parts?: { trusted: boolean }) {
  const rig = await Rig.started();
  if (parts) rig.clock.setTrusted(parts.trusted);
  const good = JSON.parse(Buffer.from(rig.command()).toString()) as Record<string, unknown>;
  await rig.send(encode({ ...good, ...fields }));
  return rig;
}

describe("refused with an answer, before any plugin hears of it", () => {
  test.each([
    ["not on the list", { command: "exec.run" }, "rejected", "signature_required"],
    ["almost on the list", { command: "xsystem.ping" }, "rejected", "signature_required"],
    ["expired", { issuedAt: 1, expiresAt: 2 }, "expired", "command_expired"],
    ["another version", { v: 2 }, "rejected", "envelope_invalid"],
    ["no expiry", { expiresAt: undefined }, "rejected", "envelope_invalid"],
    ["params of a list", { params: [] }, "rejected", "envelope_invalid"],
  ])("%s", async (_name, fields, status, code) => {
    const rig = await answerTo(fields);
    expect(rig.replies).toMatchObject([{ id: "c1", status, error: { code } }]);
    expect(rig.dispatcher.begun).toHaveLength(0);
    expect(rig.inbound.accepted).toHaveLength(1);
    expect(rig.commands.stats()).toMatchObject({ rejected: 1, recorded: 0 });
    expect(rig.outbox.reserved).toBe(0);
  });
});

describe("the list of commands that need no signature", () => {
  test.each([
    ["system.ping", "system.ping", true],
    ["system.ping", "system.pingx", false],
    ["*", "exec.run", true],
    ["system.*", "system.ping", true],
    ["system.*", "systemx.ping", false],
    ["*.ping", "other.ping", true],
    ["*.ping", "other.pong", false],
    ["s*m.p*g", "system.ping", true],
    ["s*m.p*g", "system.pin", false],
    ["system.p*ping", "system.ping", false],
    ["*i*i*", "system.ping", false],
    ["a*a.b", "a.b", false],
    ["system..ing", "system.ping", false],
    ["", "system.ping", false],
    [`${"*a".repeat(50)}*`, `x.${"a".repeat(49)}`, false],
  ])("%s on %s: %s", async (pattern, command, expected) => {
    const rig = await Rig.started({ options: { allowUnsigned: [pattern] } });
    await rig.send({ command });
    expect(rig.dispatcher.begun).toHaveLength(expected ? 1 : 0);
    expect(rig.count("signature_required")).toBe(expected ? 0 : 1);
  });
});

describe("acknowledged, counted and not answered", () => {
  test.each([
    ["another device's", { to: "GID_demo@@@gw-02" }, "wrong_recipient"],
    ["nobody's", { from: undefined }, "unreadable_from_invalid"],
    ["our own", { from: device }, "unreadable_from_invalid"],
    ["an id like a path", { id: "../x" }, "unreadable_id_invalid"],
    ["replies to a control topic", { replyTo: "$SYS/uploadToken" }, "reply_to_refused"],
    ["replies to a foreign parent", { replyTo: "OTHER/p2p/x" }, "reply_to_refused"],
    ["replies to a wildcard", { replyTo: "GW_UP/reply/+" }, "reply_to_refused"],
    [
      "replies to a topic too long",
      { replyTo: `GW_UP/reply/${"x".repeat(128)}` },
      "reply_to_refused",
    ],
    ["replies to a topic not listed", { replyTo: "GW_UP/health/x" }, "reply_to_refused"],
  ])("%s", async (_name, fields, reason) => {
    const rig = await answerTo(fields);
    expect(rig.count(reason)).toBe(1);
    expect(rig.inbound.accepted).toHaveLength(1);
    expect(rig.outbox.sent).toHaveLength(0);
    expect(rig.dispatcher.begun).toHaveLength(0);
    expect(rig.commands.stats().rejected).toBe(1);
  });

  test("a signed command, as long as nobody here can check it", async () => {
    const rig = await Rig.started();
    await rig.send(Buffer.from("eyJhbGciOiJub25lIn0.eyJ2IjoxfQ.AAAA"));
    expect(rig.count("signature_unchecked")).toBe(1);
    expect(rig.outbox.sent).toHaveLength(0);
  });

  test.each([
    ["nothing", Buffer.alloc(0), "empty"],
    ["64 KB of noise", Buffer.alloc(65_536, 0xa7), "too_large"],
    ["bytes that are no UTF-8", Buffer.from([0x7b, 0xff, 0x7d]), "not_utf8"],
    ["depth 20,000", Buffer.from("[".repeat(20_000)), "too_deep"],
    ["half a number", Buffer.from("-"), "not_json"],
    ["__proto__", Buffer.from('{"__proto__":{"from":"x"}}'), "forbidden_key"],
    ["2^53 + 1", Buffer.from('{"v":9007199254740993}'), "number_range"],
    ["a list", Buffer.from("[]"), "not_object"],
  ])("unreadable: %s", async (_name, payload, reason) => {
    const rig = await Rig.started();
    await rig.send(payload);
    expect(rig.count(`unreadable_${reason}`)).toBe(1);
    expect(rig.inbound.accepted).toHaveLength(1);
    expect(rig.outbox.sent).toHaveLength(0);
    await rig.send();
    expect(rig.dispatcher.begun).toHaveLength(1);
  });
});

test("what cannot be read is logged once a minute, with how often it came", async () => {
  const lines: unknown[] = [];
  const warn = (event: string, fields?: LogFields): void => void lines.push([event, fields]);
  const log: Logger = { ...silentLog, warn };
  const rig = await Rig.started({ log });
  for (let i = 0; i < 20; i++) await rig.send(Buffer.from("x"));
  await rig.clock.advance(60_000);
  for (let i = 0; i < 5; i++) await rig.send(Buffer.from("[]"));
  expect(lines).toEqual([
    ["commands unreadable", { count: 1, lastReason: "not_json" }],
    ["commands unreadable", { count: 20, lastReason: "not_object" }],
  ]);
});

describe("where an answer goes", () => {
  test("an unsigned command is answered to its sender, whatever else it may ask for", async () => {
    const rig = await answerTo({ replyTo: "GW_UP/reply/log" });
    rig.dispatcher.end("c1");
    await rig.settle();
    expect(rig.replies).toMatchObject([{ topic: `GW_DOWN/p2p/${console1}`, status: "succeeded" }]);
  });

  test("a sender whose topic would be too long is not answered, so not obeyed", async () => {
    const rig = await Rig.started({ options: { topicMax: 20 } });
    await rig.send();
    expect(rig.count("reply_to_refused")).toBe(1);
    expect(rig.dispatcher.begun).toHaveLength(0);
  });
});

describe("expiry", () => {
  test("a clock that is not trusted expires nothing", async () => {
    const rig = await answerTo({ issuedAt: 1, expiresAt: 2 }, { trusted: false });
    expect(rig.dispatcher.begun).toHaveLength(1);
  });

  test("a command that expires while it waits ends expired, with its one final reply", async () => {
    const rig = await Rig.started();
    await rig.send({ id: "long" });
    await rig.send({ id: "waits" });
    await rig.clock.advance(60_001);
    rig.dispatcher.end("long");
    await rig.settle();
    expect(rig.dispatcher.begun.map(({ id }) => id)).toEqual(["long"]);
    expect(rig.replies.at(-1)).toMatchObject({ id: "waits", status: "expired" });
    expect(await rig.commands.get("waits")).toMatchObject([{ state: "final", status: "expired" }]);
  });
});

describe("the rate of replies", () => {
  const burst = async (rig: Rig, count: number, from = console1): Promise<void> => {
    for (let i = 0; i < count; i++) await rig.send({ id: `c${i}`, from, command: "exec.run" });
  };

  test("is bounded by sender, and one sender does not use up another's", async () => {
    const rig = await Rig.started({ options: { replyRate: 5 } });
    await burst(rig, 20);
    expect(rig.outbox.sent).toHaveLength(5);
    expect(rig.count("reply_limited")).toBe(15);
    await burst(rig, 2, "GID_demo@@@console-2");
    expect(rig.outbox.sent).toHaveLength(7);
    await rig.clock.advance(400);
    await burst(rig, 20);
    expect(rig.outbox.sent).toHaveLength(9);
  });

  test("is bounded over any number of invented senders", async () => {
    const rig = await Rig.started({ options: { replyRate: 5 } });
    for (let i = 0; i < 200; i++)
      rig.inbound.push(rig.command({ from: `GID_x@@@${i}`, command: "a.b" }));
    await rig.settle();
    expect(rig.outbox.sent).toHaveLength(50);
  });

  test("does not touch the final replies of admitted commands", async () => {
    const rig = await Rig.started({ options: { replyRate: 1 } });
    rig.dispatcher.answer = () => ({ status: "succeeded", result: 1 });
    for (let i = 0; i < 50; i++) rig.inbound.push(rig.command({ id: `c${i}` }));
    for (let i = 0; i < 30; i++) await rig.settle();
    expect(new Set(rig.statuses).size).toBe(50);
  });

  test("answers that wait for a stuck disk are bounded", async () => {
    const rig = await Rig.started({ options: { replyRate: 1_000 } });
    rig.outbox.beforePut = () => new Promise(() => undefined);
    for (let i = 0; i < 400; i++) rig.inbound.push(rig.command({ id: `c${i}`, command: "a.b" }));
    await rig.settle();
    expect(rig.count("signature_required")).toBe(400);
    expect(rig.count("reply_limited")).toBe(400 - 256);
  });
});

test("any bytes at all leave the agent healthy", async () => {
  const rig = await Rig.started({ options: { replyRate: 1_000_000 } });
  const good = rig.command({ id: "mutated" });
  let sent = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.uint8Array({ maxLength: 300 }),
        fc.json().map((text) => Buffer.from(text)),
        fc.tuple(fc.nat(good.length - 1), fc.nat(255)).map(([at, byte]) => {
          const bytes = good.slice();
          bytes[at] = byte;
          return bytes;
        }),
      ),
      async (bytes) => {
        sent++;
        rig.inbound.push(bytes);
        await rig.settle();
        expect(rig.inbound.accepted).toHaveLength(sent);
      },
    ),
    { numRuns: 400 },
  );
  await rig.send({ id: "after", command: "other.do" });
  expect(rig.dispatcher.begun.some(({ id }) => id === "after")).toBe(true);
});
