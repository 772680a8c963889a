import { describe, expect, onTestFinished, test, vi } from "vitest";
import {
  passwordAuthenticator,
  signatureAuthenticator,
} from "../../../agent/connection/connection.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { waitFor } from "../../support/wait-for.ts";
import { collect, makeSession, never, online, scripted, texts } from "./harness.ts";

describe("coming online", () => {
  test("CONNECT carries what the sheet asks for", async () => {
    const broker = await scripted();
    const session = makeSession(
      broker.url,
      { clientId: "GID_Test@@@0001" },
      {
        authenticator: signatureAuthenticator({
          accessKey: "YYYYY",
          secret: () => "XXXXX",
          instanceId: "mqtt-xxxxx",
          clientId: "GID_Test@@@0001",
        }),
      },
    );
    await online(session);
    expect(broker.peer.connect).toMatchObject({
      protocolId: "MQTT",
      protocolVersion: 4,
      clientId: "GID_Test@@@0001",
      clean: false,
      keepalive: 90,
      username: "Signature|YYYYY|mqtt-xxxxx",
      password: Buffer.from("vI009IZJZVGRwBwZvnbwjfuXxVM="),
    });
    expect(broker.peer.connect?.will).toBeUndefined();
    expect(session.info()).toMatchObject({ state: "online", endpoint: broker.url, attempts: 1 });
  });

  test("without a user name there is no password either", async () => {
    const broker = await scripted();
    const authenticator = passwordAuthenticator({ password: () => "secret" });
    await online(makeSession(broker.url, { profile: "mqtt" }, { authenticator }));
    expect(broker.peer.connect?.username).toBeUndefined();
    expect(broker.peer.connect?.password).toBeUndefined();
  });

  test("is announced only when every subscription is answered", async () => {
    const held: (() => void)[] = [];
    const broker = await scripted((packet, peer) => {
      if (packet.cmd !== "subscribe") return false;
      const messageId = packet.messageId ?? 0;
      held.push(() => peer.send({ cmd: "suback", messageId, granted: [1] }));
      return true;
    });
    const session = makeSession(broker.url, {
      subscriptions: [
        { filter: "down/p2p/a", qos: 1 },
        { filter: "down/all/#", qos: 1 },
      ],
    });
    await session.start(never);
    await waitFor(() => held.length === 2);
    expect(session.state).toBe("connecting");
    held[0]?.();
    await expect(session.publish({ topic: "a", payload: "" }, never)).rejects.toMatchObject({
      code: "not_connected",
    });
    held[1]?.();
    await waitFor(() => session.state === "online");
    const filters = broker.peer.of("subscribe").flatMap((packet) => packet.subscriptions);
    expect(filters.map(({ topic }) => topic)).toEqual(["down/p2p/a", "down/all/#"]);
  });

  test("a refused subscription is shown, and does not keep the session offline", async () => {
    const broker = await scripted((packet, peer) => {
      if (packet.cmd !== "subscribe") return false;
      peer.send({ cmd: "suback", messageId: packet.messageId ?? 0, granted: [0x80] });
      return true;
    });
    const session = makeSession(broker.url, { subscriptions: [{ filter: "no/#", qos: 1 }] });
    await online(session);
    expect(session.info().lastError).toMatchObject({ code: "rejected_by_service" });
    await expect(session.subscribe("no/+", 1, never)).rejects.toMatchObject({
      code: "rejected_by_service",
    });
    expect(session.state).toBe("online");
  });

  test("what arrives before the SUBACK is not lost", async () => {
    const broker = await scripted((packet, peer) => {
      if (packet.cmd === "subscribe") peer.publish(1, 1, "early");
    });
    const session = makeSession(broker.url, { subscriptions: [{ filter: "x", qos: 1 }] });
    const messages = collect(session);
    await online(session);
    await waitFor(() => messages.length === 1);
    expect(texts(messages)).toEqual(["early"]);
  });

  test("waiters of `connected` get the connection, or nothing when they give up", async () => {
    const broker = await scripted();
    const session = makeSession(broker.url);
    const patient = session.connected(never);
    const hasty = new AbortController();
    const gone = session.connected(hasty.signal);
    hasty.abort();
    expect(await gone).toBeUndefined();
    await session.start(never);
    const publisher = await patient;
    expect(publisher).toBeDefined();
    broker.peer.socket.destroy();
    expect(await publisher?.closed).toMatchObject({
      reason: expect.stringMatching(/peer|network/),
    });
    const next = await session.connected(never);
    expect(next).not.toBe(publisher);
    const late = session.connected(never);
    await session.stop(never);
    expect(await late).toBeDefined();
    expect(await session.connected(never)).toBeUndefined();
  });
});

describe("control messages", () => {
  test("resolve on PUBACK, with packet ids that are not the forwarder's", async () => {
    const broker = await scripted();
    const session = makeSession(broker.url);
    await online(session);
    await session.publish({ topic: "up/a", payload: "one" }, never);
    await session.publish({ topic: "up/a", payload: "zero", qos: 0 }, never);
    await waitFor(() => broker.peer.of("publish").length === 2);
    const [one, zero] = broker.peer.of("publish");
    expect(one).toMatchObject({ qos: 1, payload: Buffer.from("one"), dup: false, retain: false });
    expect(one?.messageId).toBeGreaterThan(60_000);
    expect(zero).toMatchObject({ qos: 0, payload: Buffer.from("zero") });
    expect(await session.subscribe("x/#", 2, never)).toEqual({ granted: 2 });
  });

  test("fail with the reason: no PUBACK, a lost connection, a caller who gives up", async () => {
    const broker = await scripted((packet) => packet.cmd === "publish");
    const session = makeSession(broker.url, { ackTimeoutMs: 50 });
    await online(session);
    const send = (signal = never) => session.publish({ topic: "up/a", payload: "x" }, signal);
    await expect(send()).rejects.toMatchObject({ code: "ack_timeout" });
    expect(session.state).toBe("online");
    const patience = new AbortController();
    const abandoned = send(patience.signal);
    patience.abort();
    await expect(abandoned).rejects.toMatchObject({ code: "cancelled" });
    broker.script = (packet, peer) => {
      if (packet.cmd === "publish") peer.socket.destroy();
      return packet.cmd === "publish";
    };
    await expect(send()).rejects.toMatchObject({ code: "connection_lost" });
  });
});

describe("stopping", () => {
  test("says DISCONNECT, after what was written before, and leaves nothing behind", async () => {
    const broker = await scripted();
    const before = process.getActiveResourcesInfo();
    const session = makeSession(broker.url);
    const messages = collect(session);
    await online(session);
    for (let round = 0; round < 5; round++) {
      const peers = broker.peers.length;
      broker.peer.socket.destroy();
      await waitFor(() => broker.peers.length > peers && session.state === "online");
    }
    const publish = session.publish({ topic: "up/a", payload: "last", qos: 0 }, never);
    await publish;
    await session.stop(never);
    expect(session.state).toBe("stopped");
    expect(broker.peer.received.map(({ cmd }) => cmd)).toEqual([
      "connect",
      "publish",
      "disconnect",
    ]);
    await waitFor(() => broker.open === 0);
    expect(messages).toEqual([]);
    const count = (list: string[], kind: RegExp) => list.filter((name) => kind.test(name)).length;
    await waitFor(() => {
      const now = process.getActiveResourcesInfo();
      return (
        count(now, /TCPSocket|TLS/) <= count(before, /TCPSocket|TLS/) &&
        // One timer is that of this very wait.
        count(now, /Timeout/) <= count(before, /Timeout/) + 1
      );
    });
    await session.stop(never);
    expect(session.state).toBe("stopped");
  });

  test("mqtt.js runs no keep-alive of its own, which would judge a paused socket", async () => {
    const intervals = vi.spyOn(globalThis, "setInterval");
    onTestFinished(() => intervals.mockRestore());
    const broker = await scripted();
    await online(makeSession(broker.url, { keepaliveS: 5 }, { clock: new FakeClock() }));
    expect(broker.peer.connect?.keepalive).toBe(5);
    expect(intervals).not.toHaveBeenCalled();
  });

  test("does not wait for a service that never closes", async () => {
    const broker = await scripted((packet) => packet.cmd === "disconnect");
    const session = makeSession(broker.url);
    await online(session);
    const deadline = new AbortController();
    const stopped = session.stop(deadline.signal);
    await waitFor(() => broker.peer.of("disconnect").length === 1);
    deadline.abort();
    await stopped;
    expect(session.state).toBe("stopped");
    await waitFor(() => broker.peer.closed);
  });

  test("works in the middle of an attempt, of a wait, and with stuck credentials", async () => {
    const silent = await scripted(() => true);
    const connecting = makeSession(silent.url);
    await connecting.start(never);
    await waitFor(() => silent.peers.length === 1);
    await connecting.stop(never);
    await waitFor(() => silent.open === 0);

    const waiting = makeSession("mqtt://127.0.0.1:1", {
      reconnect: { minMs: 60_000, maxMs: 60_000, refusedMinMs: 60_000, takeoverMinMs: 60_000 },
    });
    await waiting.start(never);
    await waitFor(() => waiting.state === "backing-off");
    expect(waiting.info().lastError?.code).toBe("connect_failed");
    await waiting.stop(never);

    const stuck = makeSession(
      silent.url,
      {},
      { authenticator: { credentials: () => new Promise(() => undefined) } },
    );
    await stuck.start(never);
    await stuck.stop(never);
    expect([connecting.state, waiting.state, stuck.state]).toEqual(Array(3).fill("stopped"));
  });

  test("the start signal ends it as well, with a DISCONNECT", async () => {
    const broker = await scripted();
    const session = makeSession(broker.url);
    const life = new AbortController();
    await session.start(life.signal);
    await waitFor(() => session.state === "online");
    life.abort();
    await waitFor(() => session.state === "stopped");
    expect(broker.peer.of("disconnect")).toHaveLength(1);
  });
});
