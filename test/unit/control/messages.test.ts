import { describe, expect, test } from "vitest";
import { type ErrorCode, HoldfastError } from "../../../agent/core/errors.ts";
import type { Receipt } from "../../../agent/core/message.ts";
import { epoch, startControl } from "./fixture.ts";

describe("one message", () => {
  test("is put with all that the query says, below the parent topic", async () => {
    const { ask, messages } = await startControl();
    const reply = await ask("POST", "/v1/messages?topic=a%2Fb&lane=event&ttl_s=1.5&key=k&id=x-1", {
      body: Buffer.from([0, 255, 10]),
    });
    expect(reply.status).toBe(200);
    expect(reply.json).toEqual({ id: `${epoch}-1`, seq: 1, safe: "disk" });
    expect(messages).toEqual([
      {
        topic: "GW_UP/a/b",
        payload: Buffer.from([0, 255, 10]),
        lane: "event",
        key: "k",
        ttlMs: 1500,
        producerId: "x-1",
      },
    ]);
  });

  test("goes to telemetry when no lane is named, on the producers' socket too", async () => {
    const { ask, messages } = await startControl();
    const reply = await ask("POST", "/v1/messages?topic=t", { socket: "producer.sock", body: "p" });
    expect(reply.status).toBe(200);
    expect(messages).toEqual([{ topic: "GW_UP/t", payload: Buffer.from("p"), lane: "telemetry" }]);
  });

  test.each([
    ["", "topic_invalid"],
    ["?topic=", "topic_invalid"],
    ["?topic=p2p/GID_demo@@@gw-02", "topic_invalid"],
    ["?topic=health", "topic_invalid"],
    ["?topic=t&tl_s=4", "message_invalid"],
    ["?topic=t&ttl_s=-1", "message_invalid"],
    ["?topic=t&ttl_s=1e3", "message_invalid"],
    ["?topic=t&ttl_s=", "message_invalid"],
    ["?topic=t&ttl_s=999999999999", "message_invalid"],
    ["?topic=t&key=", "message_invalid"],
    [`?topic=t&key=${"k".repeat(257)}`, "message_invalid"],
    ["?topic=t&id=", "message_invalid"],
    ["?topic=t&id=a/b", "message_invalid"],
    [`?topic=t&id=${"i".repeat(65)}`, "message_invalid"],
    ["?topic=a&topic=b", "request_invalid"],
    ["?topic=%ff", "request_invalid"],
    ["?topic=%", "request_invalid"],
  ])("POST /v1/messages%s is refused with 400 %s", async (query, code) => {
    const { ask, messages } = await startControl();
    const reply = await ask("POST", `/v1/messages${query}`, { body: "x" });
    expect([reply.status, reply.json.error.code]).toEqual([400, code]);
    expect(messages).toEqual([]);
  });

  test.each<[ErrorCode, number]>([
    ["topic_invalid", 400],
    ["topic_too_long", 400],
    ["lane_unknown", 400],
    ["message_invalid", 400],
    ["payload_too_large", 413],
    ["lane_full", 429],
    ["store_not_writable", 503],
    ["stopped", 503],
    ["protocol_error", 500],
  ])("a refusal of the outbox with %s is a %i", async (code, status) => {
    const put = (): Promise<Receipt> => Promise.reject(new HoldfastError(code, "Said so."));
    const { ask } = await startControl({ put });
    const reply = await ask("POST", "/v1/messages?topic=t", { body: "x" });
    expect(reply.status).toBe(status);
    expect(reply.json).toEqual({ error: { code, message: "Said so." } });
    const later = status === 429 || status === 503 ? "1" : undefined;
    expect(reply.headers["retry-after"]).toBe(later);
  });

  test("an error that nobody meant does not leak into the answer", async () => {
    const put = (): Promise<Receipt> => Promise.reject(new TypeError("secret /path"));
    const { ask } = await startControl({ put });
    const reply = await ask("POST", "/v1/messages?topic=t", { body: "x" });
    expect([reply.status, reply.json.error.code]).toEqual([500, "internal"]);
    expect(reply.text).not.toContain("secret");
  });

  test("a payload of exactly the limit is taken, one byte more is 413", async () => {
    const { ask, messages } = await startControl();
    const at = await ask("POST", "/v1/messages?topic=t", { body: Buffer.alloc(65_536) });
    const over = await ask("POST", "/v1/messages?topic=t", { body: Buffer.alloc(65_537) });
    expect([at.status, over.status]).toEqual([200, 413]);
    expect(over.json.error.code).toBe("payload_too_large");
    expect(messages.length).toBe(1);
  });
});

describe("a batch", () => {
  const lines = (...given: unknown[]): string =>
    given.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n");

  test("takes text, JSON and base64 payloads", async () => {
    const { ask, messages } = await startControl();
    const body = lines(
      { topic: "t", payload: "täxt" },
      { topic: "j", payload: { a: [1, null] }, lane: "event", ttl_s: 0, key: "k", id: "p1" },
      { topic: "n", payload: null },
      { topic: "b", payloadBase64: "AP8K" },
    );
    const reply = await ask("POST", "/v1/messages:batch", { body });
    expect(reply.json.accepted).toBe(4);
    expect(reply.json.results[0]).toEqual({ line: 1, id: `${epoch}-1`, safe: "disk" });
    expect(messages.map(({ payload }) => Buffer.from(payload).toString("latin1"))).toEqual([
      Buffer.from("täxt").toString("latin1"),
      '{"a":[1,null]}',
      "null",
      "\u0000\u00ff\n",
    ]);
    expect(messages[1]).toMatchObject({ lane: "event", ttlMs: 0, key: "k", producerId: "p1" });
  });

  test("bad lines fail alone, with their number", async () => {
    const { ask, messages } = await startControl();
    const bad: [unknown, string][] = [
      ["{", "json_invalid"],
      ["[]", "message_invalid"],
      ['"x"', "message_invalid"],
      [{ payload: "x" }, "topic_invalid"],
      [{ topic: 4, payload: "x" }, "topic_invalid"],
      [{ topic: "t" }, "message_invalid"],
      [{ topic: "t", payload: "x", payloadBase64: "eA==" }, "message_invalid"],
      [{ topic: "t", payloadBase64: "eA" }, "message_invalid"],
      [{ topic: "t", payloadBase64: "e A=" }, "message_invalid"],
      [{ topic: "t", payloadBase64: 4 }, "message_invalid"],
      [{ topic: "t", payload: "x", lane: 1 }, "message_invalid"],
      [{ topic: "t", payload: "x", ttl_s: "1" }, "message_invalid"],
      [{ topic: "t", payload: "x", extra: 1 }, "message_invalid"],
      [{ topic: "t", payload: "x".repeat(65_537) }, "payload_too_large"],
      ['{"topic":"t","payload":12345678901234567890}', "json_invalid"],
      ['{"topic":"t","__proto__":{},"payload":"x"}', "json_invalid"],
      [`{"topic":"t","payload":${"[".repeat(70)}${"]".repeat(70)}}`, "json_invalid"],
    ];
    const good = { topic: "t", payload: "good" };
    const body = lines(good, ...bad.map(([line]) => line), good);
    const reply = await ask("POST", "/v1/messages:batch", { body });
    expect(reply.status).toBe(200);
    expect(reply.json.accepted).toBe(2);
    const failed = reply.json.results.filter((result: { error?: unknown }) => result.error);
    expect(
      failed.map(({ line, error }: { line: number; error: { code: string } }) => [
        line,
        error.code,
      ]),
    ).toEqual(bad.map(([, code], at) => [at + 2, code]));
    expect(messages.length).toBe(2);
  });

  test("a line that is not UTF-8 fails alone", async () => {
    const { ask } = await startControl();
    const body = Buffer.concat([
      Buffer.from('{"topic":"t","payload":"'),
      Buffer.from([0xc3, 0x28]),
      Buffer.from('"}\n{"topic":"t","payload":"ok"}\n'),
    ]);
    const { json } = await ask("POST", "/v1/messages:batch", { body });
    expect(json.accepted).toBe(1);
    expect(json.results[0]).toMatchObject({ line: 1, error: { code: "json_invalid" } });
  });

  test("blank lines are skipped and counted, CRLF is fine", async () => {
    const { ask } = await startControl();
    const line = '{"topic":"t","payload":"x"}';
    const { json } = await ask("POST", "/v1/messages:batch", {
      body: `\n${line}\r\n  \n${line}\n\n`,
    });
    expect(json.results.map((result: { line: number }) => result.line)).toEqual([2, 4]);
  });

  test("an empty one is accepted as nothing", async () => {
    const { ask } = await startControl();
    const { status, json } = await ask("POST", "/v1/messages:batch");
    expect([status, json]).toEqual([200, { accepted: 0, results: [] }]);
  });

  test("all lines are put before the first is answered, and results keep the order", async () => {
    const waiting: (() => void)[] = [];
    const put = (): Promise<Receipt> => {
      const seq = waiting.length + 1;
      return new Promise((resolve) => {
        waiting.push(() => resolve({ id: `${epoch}-${seq}`, seq, safe: "broker" }));
        // The last one in lets them all go, the newest first.
        if (waiting.length === 1_000) for (const answer of waiting.reverse()) answer();
      });
    };
    const { ask } = await startControl({ put });
    const body = lines(...Array.from({ length: 1_000 }, () => ({ topic: "t", payload: "x" })));
    const { json } = await ask("POST", "/v1/messages:batch", { body });
    expect(json.accepted).toBe(1_000);
    expect(json.results.map(({ id }: { id: string }) => id)).toEqual(
      Array.from({ length: 1_000 }, (_, at) => `${epoch}-${at + 1}`),
    );
  });

  test("10,000 lines are taken, 10,001 are refused whole", async () => {
    const { ask, messages } = await startControl();
    const line = '{"topic":"t","payload":"x"}\n';
    const at = await ask("POST", "/v1/messages:batch", { body: line.repeat(10_000) });
    expect([at.status, at.json.accepted]).toEqual([200, 10_000]);
    const over = await ask("POST", "/v1/messages:batch", { body: line.repeat(10_001) });
    expect([over.status, over.json.error.code]).toEqual([413, "payload_too_large"]);
    expect(messages.length).toBe(10_000);
  });

  test("8 MiB are taken, one byte more is 413", async () => {
    const { ask, messages } = await startControl();
    const line = `{"topic":"t","payload":"${"x".repeat(60_000)}"}\n`;
    const full = line.repeat(139).padEnd(8_388_608, " ");
    const at = await ask("POST", "/v1/messages:batch", { body: full });
    expect([at.status, at.json.accepted]).toEqual([200, 139]);
    const over = await ask("POST", "/v1/messages:batch", { body: `${full} ` });
    expect(over.status).toBe(413);
    expect(messages.length).toBe(139);
  });
});
