import { createServer } from "node:net";
import fc from "fast-check";
import { generate } from "mqtt-packet";
import { describe, expect, onTestFinished, test } from "vitest";
import { FakeClock } from "../../support/fake-clock.ts";
import type { Script } from "../../support/scripted-broker.ts";
import { waitFor } from "../../support/wait-for.ts";
import { makeSession, never, online, scripted } from "./harness.ts";

const refuseWith =
  (returnCode: number): Script =>
  (packet, peer) => {
    if (packet.cmd !== "connect") return false;
    peer.send({ cmd: "connack", returnCode, sessionPresent: false });
    return true;
  };

describe("attempts that fail", () => {
  test("CONNACK 4 and 5 are refused credentials, the others a refused connection", async () => {
    for (const [returnCode, state, code] of [
      [1, "backing-off", "connection_refused"],
      [2, "backing-off", "connection_refused"],
      [3, "backing-off", "connection_refused"],
      [4, "refused", "credentials_refused"],
      [5, "refused", "credentials_refused"],
    ] as const) {
      const broker = await scripted(refuseWith(returnCode));
      const session = makeSession(broker.url, {
        reconnect: { minMs: 30, maxMs: 40, refusedMinMs: 30, takeoverMinMs: 30 },
      });
      await session.start(never);
      await waitFor(() => session.state === state);
      expect(session.info().lastError).toMatchObject({ code });
      expect(session.info().lastError?.message).toContain(String(returnCode));
      await waitFor(() => broker.peers.length >= 3);
      expect(session.info().attempts).toBeGreaterThanOrEqual(2);
      broker.script = () => false;
      await waitFor(() => session.state === "online");
      await session.stop(never);
      await waitFor(() => broker.open === 0);
    }
  });

  test("a service that says nothing, or never answers a SUBSCRIBE, is given up in time", async () => {
    for (const silentTo of ["connect", "subscribe"]) {
      const broker = await scripted(({ cmd }) => cmd === silentTo);
      const session = makeSession(broker.url, {
        connectTimeoutMs: 50,
        subscriptions: [{ filter: "a", qos: 1 }],
      });
      await session.start(never);
      await waitFor(() => session.info().lastError?.code === "connect_timeout");
      await waitFor(() => broker.peers.length >= 2 && broker.peers[0]?.closed);
      broker.script = () => false;
      await waitFor(() => session.state === "online");
    }
  });

  test("credentials that cannot be had are a failed attempt", async () => {
    const broker = await scripted();
    let failures = 3;
    const authenticator = {
      credentials: async () => {
        if (failures-- > 0) throw new Error("the source is down");
        return { username: "u" };
      },
    };
    const session = makeSession(broker.url, {}, { authenticator });
    await online(session);
    expect(broker.peers).toHaveLength(1);
    expect(session.info().attempts).toBe(4);
  });

  test("several endpoints are tried in turn", async () => {
    const broker = await scripted();
    const dead = "mqtt://127.0.0.1:1";
    const session = makeSession([dead, "not a url", broker.url]);
    await online(session);
    expect(session.info()).toMatchObject({ attempts: 3, endpoint: broker.url });
  });

  test("the endpoint that is shown has no user name in it", async () => {
    const session = makeSession("mqtt://user:secret@127.0.0.1:1");
    await session.start(never);
    await waitFor(() => session.state === "backing-off");
    expect(JSON.stringify(session.info())).not.toMatch(/user|secret/);
    expect(session.info().endpoint).toBe("mqtt://127.0.0.1:1");
  });
});

describe("connections that end", () => {
  test("a DISCONNECT that says taken over is told from a plain close", async () => {
    const broker = await scripted();
    const session = makeSession(broker.url);
    await online(session);
    const first = await session.connected(never);
    broker.peer.sendRaw(Buffer.from([0xe0, 2, 0x8e, 0]));
    expect(await first?.closed).toEqual({ reason: "takeover" });
    expect(session.info().lastError?.code).toBe("takeover");
    await waitFor(() => broker.peers.length === 2 && session.state === "online");
    const second = await session.connected(never);
    broker.peer.socket.end();
    expect(await second?.closed).toEqual({ reason: "peer_closed" });
    expect(session.info().lastError?.code).toBe("connection_lost");
  });

  test("a service that closes at every publish leads to no hot loop, on the session's clock", async () => {
    const clock = new FakeClock();
    const broker = await scripted((packet, peer) => {
      if (packet.cmd === "publish") peer.socket.destroy();
      return packet.cmd === "publish";
    });
    const session = makeSession(
      broker.url,
      { reconnect: { minMs: 500, maxMs: 120_000, refusedMinMs: 10_000, takeoverMinMs: 30_000 } },
      { clock },
    );
    await session.start(never);
    const startMs = clock.monotonicMs();
    for (let round = 1; round <= 12; round++) {
      await waitFor(() => session.state === "online");
      const publisher = await session.connected(never);
      void session.publish({ topic: "up/a", payload: "x" }, never).catch(() => undefined);
      await publisher?.closed;
      await waitFor(() => session.state === "backing-off");
      expect(broker.peers).toHaveLength(round);
      // Not one attempt comes without time passing.
      await new Promise(setImmediate);
      expect(broker.peers).toHaveLength(round);
      while (session.state === "backing-off") await clock.advance(250);
    }
    expect(clock.monotonicMs() - startMs).toBeGreaterThan(20_000);
  });

  test("a peer that stays silent to pings is given up, on the session's clock", async () => {
    const clock = new FakeClock();
    const broker = await scripted(({ cmd }) => cmd === "pingreq");
    const session = makeSession(broker.url, { keepaliveS: 90 }, { clock });
    await online(session);
    const publisher = await session.connected(never);
    await clock.advance(67_500);
    await waitFor(() => broker.peer.of("pingreq").length === 1);
    await clock.advance(45_000);
    expect(await publisher?.closed).toEqual({ reason: "keepalive" });
  });

  test("answered pings keep an idle connection for days", async () => {
    const clock = new FakeClock();
    const broker = await scripted();
    const session = makeSession(broker.url, {}, { clock });
    await online(session);
    for (let i = 1; i <= 50; i++) {
      await clock.advance(67_500);
      await waitFor(() => broker.peer.of("pingreq").length === i);
      await waitFor(() => session.counters().bytesIn >= 4 + 2 * i);
    }
    expect(broker.peers).toHaveLength(1);
    expect(session.info().attempts).toBe(1);
  });
});

describe("hostile services", () => {
  test("random bytes, with or without a CONNACK before them, never end the process", async () => {
    const failures: unknown[] = [];
    const note = (error: unknown): void => void failures.push(error);
    process.on("uncaughtException", note).on("unhandledRejection", note);
    onTestFinished(() => {
      process.off("uncaughtException", note).off("unhandledRejection", note);
    });
    let bytes = Buffer.alloc(0);
    const broker = await scripted((packet, peer) => {
      if (packet.cmd === "connect") peer.sendRaw(bytes);
      if (packet.cmd === "connect") peer.socket.end();
      return true;
    });
    const session = makeSession(broker.url, {
      reconnect: { minMs: 1, maxMs: 1, refusedMinMs: 1, takeoverMinMs: 1 },
      subscriptions: [{ filter: "a/#", qos: 1 }],
    });
    void (async () => {
      for await (const message of session.messages(never)) message.accept();
    })();
    await session.start(never);
    const hello = generate({ cmd: "connack", returnCode: 0, sessionPresent: false });
    const packetLike = fc
      .tuple(fc.integer({ min: 0, max: 255 }), fc.uint8Array({ maxLength: 40 }))
      .map(([first, body]) => Buffer.from([first, body.length, ...body]));
    const anything = fc.oneof(fc.uint8Array({ maxLength: 300 }).map(Buffer.from), packetLike);
    await fc.assert(
      fc.asyncProperty(
        fc.boolean(),
        fc.array(anything, { maxLength: 6 }),
        async (polite, parts) => {
          bytes = Buffer.concat(polite ? [hello, ...parts] : parts);
          const count = broker.peers.length;
          await waitFor(() => broker.peers.length > count + 1);
        },
      ),
      { numRuns: 150 },
    );
    broker.script = () => false;
    await waitFor(() => session.state === "online");
    expect(failures).toEqual([]);
  });

  test("a port that speaks something else is a broken protocol, in words", async () => {
    const server = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.end("HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\n\r\n");
    });
    onTestFinished(() => void server.close());
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const port = typeof address === "object" && address ? address.port : 0;
    const session = makeSession(`mqtt://127.0.0.1:${port}`);
    await session.start(never);
    await waitFor(() => session.info().lastError);
    expect(session.info().lastError).toMatchObject({ code: "protocol_error" });
    expect(session.info().lastError?.message).toMatch(/first packet is not CONNACK/);
  });
});
