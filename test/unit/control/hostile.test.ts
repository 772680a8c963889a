/** What broken and hostile local programs do, and what it may cost. */
import { connect } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Receipt } from "../../../agent/core/message.ts";
import { waitFor } from "../../support/wait-for.ts";
import { epoch, startControl } from "./fixture.ts";

const quick = { requestTimeoutMs: 200, lingerMs: 100 };
const post = (path: string, ...head: string[]): string =>
  [`POST ${path} HTTP/1.1`, "Host: x", ...head, "", ""].join("\r\n");

describe("bodies", () => {
  test("a declared length over the limit is answered 413 without reading it", async () => {
    const { dial, messages } = await startControl();
    const line = await dial();
    line.socket.write(post("/v1/messages?topic=t", "Content-Length: 99999999"));
    await waitFor(() => line.received().includes("payload_too_large"));
    expect(line.received()).toMatch(/^HTTP\/1\.1 413 /);
    expect(line.received().toLowerCase()).toContain("connection: close");
    line.socket.end();
    await line.closed;
    expect(messages).toEqual([]);
  });

  test("a client that waits for 100-continue is told 413 at once and sends nothing", async () => {
    const { dial } = await startControl();
    const line = await dial();
    const head = ["Content-Length: 99999999", "Expect: 100-continue"];
    line.socket.write(post("/v1/messages?topic=t", ...head));
    await waitFor(() => line.received().includes("payload_too_large"));
    expect(line.received()).not.toContain("100 Continue");
  });

  test("a client that waits for 100-continue gets it", async () => {
    const { dial, messages } = await startControl();
    const line = await dial();
    line.socket.write(post("/v1/messages?topic=t", "Content-Length: 2", "Expect: 100-continue"));
    await waitFor(() => line.received().includes("100 Continue"));
    line.socket.write("hi");
    await waitFor(() => line.received().includes("200 OK"));
    expect(messages.length).toBe(1);
  });

  test("chunks without end are cut at the limit, and the client can read why", async () => {
    const { dial, messages } = await startControl({}, { limits: quick });
    const line = await dial();
    line.socket.write(post("/v1/messages?topic=t", "Transfer-Encoding: chunked"));
    const chunk = `2000\r\n${"x".repeat(0x2000)}\r\n`;
    let over = false;
    void line.closed.then(() => {
      over = true;
    });
    await waitFor(() => {
      if (!over) line.socket.write(chunk);
      return over;
    });
    expect(line.received()).toMatch(/^HTTP\/1\.1 413 /);
    expect(line.received()).toContain("payload_too_large");
    expect(messages).toEqual([]);
  });

  test("a slow body ends with 408, a slow head too", async () => {
    const { dial, messages } = await startControl({}, { limits: quick });
    const [body, head] = [await dial(), await dial()];
    body.socket.write(`${post("/v1/messages?topic=t", "Content-Length: 10")}abc`);
    head.socket.write("POST /v1/mess");
    await Promise.all([body.closed, head.closed]);
    expect(body.received()).toMatch(/^HTTP\/1\.1 408 /);
    expect(head.received()).toMatch(/^HTTP\/1\.1 408 /);
    expect(messages).toEqual([]);
  });

  test("a client that goes away within its body leaves nothing behind", async () => {
    const { dial, ask, messages } = await startControl({}, { limits: { bodyBudgetBytes: 70_000 } });
    for (let round = 0; round < 5; round++) {
      const line = await dial();
      line.socket.write(post("/v1/messages?topic=t", "Content-Length: 60000"));
      line.socket.write("x".repeat(50_000));
      line.socket.destroy();
      await line.closed;
    }
    // Were the room of the broken bodies not given back, this would be refused.
    const full = await waitFor(async () => {
      const reply = await ask("POST", "/v1/messages?topic=t", { body: "x".repeat(60_000) });
      return reply.status === 200 && reply;
    });
    expect(full.status).toBe(200);
    expect(messages.length).toBe(1);
  });

  test("what all bodies hold together is bounded", async () => {
    const { dial, ask } = await startControl({}, { limits: { bodyBudgetBytes: 100_000 } });
    const line = await dial();
    line.socket.write(post("/v1/messages?topic=t", "Content-Length: 60000"));
    line.socket.write("x".repeat(59_000));
    const refused = await waitFor(async () => {
      const reply = await ask("POST", "/v1/messages?topic=t", { body: "x".repeat(60_000) });
      return reply.status === 503 && reply;
    });
    expect(refused.json.error.code).toBe("too_many");
    line.socket.write("x".repeat(1_000));
    await waitFor(() => line.received().includes("200 OK"));
    const after = await ask("POST", "/v1/messages?topic=t", { body: "x".repeat(60_000) });
    expect(after.status).toBe(200);
  });
});

describe("what is not HTTP", () => {
  test.each([
    ["random bytes", Buffer.from([0x16, 0x03, 0x01, 0, 1, 2, 3, 4, 5, 13, 10, 13, 10])],
    ["two lengths", post("/v1/messages?topic=t", "Content-Length: 1", "Content-Length: 2")],
    [
      "a length and chunks",
      post("/v1/messages?topic=t", "Content-Length: 1", "Transfer-Encoding: chunked"),
    ],
    ["a broken chunk", `${post("/v1/messages?topic=t", "Transfer-Encoding: chunked")}zz\r\n`],
  ])("%s: 400 and closed", async (_name, bytes) => {
    const { dial, messages } = await startControl();
    const line = await dial();
    line.socket.write(bytes);
    await line.closed;
    expect(line.received()).toMatch(/^HTTP\/1\.1 400 /);
    expect(messages).toEqual([]);
  });

  test("a head over the limit is 431", async () => {
    const { dial } = await startControl();
    const line = await dial();
    line.socket.write(post("/v1/messages?topic=t", `X-Long: ${"x".repeat(20_000)}`));
    await line.closed;
    expect(line.received()).toMatch(/^HTTP\/1\.1 431 /);
  });

  test("garbage behind a request waits for the answer to the request", async () => {
    let answer: (() => void) | undefined;
    const put = (): Promise<Receipt> =>
      new Promise((resolve) => {
        answer = () => resolve({ id: `${epoch}-1`, seq: 1, safe: "disk" });
      });
    const { dial } = await startControl({ put });
    const line = await dial();
    line.socket.write(`${post("/v1/messages?topic=t", "Content-Length: 1")}x\r\n\u0000garbage\r\n`);
    (await waitFor(() => answer))();
    await line.closed;
    const statuses = [...line.received().matchAll(/HTTP\/1\.1 (\d+)/g)].map((found) => found[1]);
    expect(statuses).toEqual(["200", "400"]);
  });
});

describe("bounds", () => {
  test("pipelined requests over the bound are told to come back", async () => {
    let answer = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      answer = resolve;
    });
    const put = async (): Promise<Receipt> => {
      await gate;
      return { id: `${epoch}-1`, seq: 1, safe: "disk" };
    };
    const { dial } = await startControl({ put }, { limits: { requestsInHand: 10 } });
    const line = await dial();
    line.socket.write(`${post("/v1/messages?topic=t", "Content-Length: 1")}x`.repeat(50));
    // The server has all of them in hand or refused when the last byte was read; then the gate.
    await waitFor(() => line.socket.writableLength === 0);
    const busy = await waitFor(async () => {
      const other = await dial();
      other.socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
      await other.closed;
      return other.received().includes("too_many") && other.received();
    });
    expect(busy).toMatch(/^HTTP\/1\.1 503 /);
    answer();
    await waitFor(() => (line.received().match(/HTTP\/1\.1 /g) ?? []).length === 50);
    const accepted = line.received().match(/HTTP\/1\.1 200/g) ?? [];
    expect(accepted.length).toBe(10);
  });

  test("connections over the bound are dropped, and room comes back", async () => {
    const { dir, dial, ask } = await startControl({}, { limits: { connections: 3 } });
    const held = [await dial(), await dial(), await dial()];
    await waitFor(
      () =>
        new Promise<boolean>((resolve) => {
          const socket = connect({ path: join(dir, "holdfast.sock") });
          socket.on("error", () => undefined);
          socket.once("close", () => resolve(true));
        }),
    );
    for (const line of held) line.socket.destroy();
    const reply = await waitFor(() => ask("GET", "/healthz").catch(() => undefined));
    expect(reply.status).toBe(200);
  });

  test("an answer that does not come is 504 and says that nobody knows", async () => {
    const put = (): Promise<Receipt> => new Promise(() => undefined);
    const { ask } = await startControl({ put }, { limits: { answerTimeoutMs: 50 } });
    const reply = await ask("POST", "/v1/messages?topic=t", { body: "x" });
    expect([reply.status, reply.json.error.code]).toEqual([504, "timed_out"]);
    expect((await ask("GET", "/healthz")).status).toBe(200);
  });

  test("a client that is silent is let go", async () => {
    const { dial } = await startControl({}, { limits: { silenceMs: 50 } });
    const line = await dial();
    await line.closed;
    expect(line.received()).toBe("");
  });
});
