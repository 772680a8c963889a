import { describe, expect, test } from "vitest";
import { type Logger, silentLog } from "../../../agent/core/log.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { publishPacket } from "../../support/scripted-broker.ts";
import { SeededRandom } from "../../support/seeded-random.ts";
import { waitFor } from "../../support/wait-for.ts";
import { batchOf, collect, makeSession, never, online, scripted, texts } from "./harness.ts";

describe("inbound QoS 1", () => {
  test("5,000 accepted late and in any order: acknowledged in the order of arrival", async () => {
    const broker = await scripted();
    const session = makeSession(broker.url);
    const messages = collect(session);
    await online(session);
    const { peer } = broker;
    const ids = Array.from({ length: 5_000 }, (_, i) => i + 1);
    for (const id of ids) peer.publish(id, 1, String(id));
    await waitFor(() => messages.length === 5_000);
    expect(texts(messages)).toEqual(ids.map(String));
    expect(peer.of("puback")).toEqual([]);

    // The reader goes on: others are served while nothing is accepted.
    await session.publish({ topic: "up/a", payload: "x" }, never);
    const publisher = await session.connected(never);
    publisher?.send(batchOf(1, 10));
    for await (const { to } of publisher?.acks(never) ?? []) if (to === 10) break;

    const random = new SeededRandom(5);
    const order = messages
      .map((message) => ({ message, at: random.float() }))
      .sort((a, b) => a.at - b.at);
    for (const [i, { message }] of order.entries()) {
      message.accept();
      message.accept();
      if (i % 97 === 0) await new Promise(setImmediate);
    }
    await waitFor(() => peer.of("puback").length === 5_000);
    expect(peer.of("puback").map(({ messageId }) => messageId)).toEqual(ids);
  });

  test("a copy of what is in hand is not delivered again and acknowledged once", async () => {
    const broker = await scripted();
    const session = makeSession(broker.url);
    const messages = collect(session);
    await online(session);
    broker.peer.publish(7, 1, "a");
    broker.peer.publish(7, 1, "a", true);
    broker.peer.publish(8, 1, "b");
    await waitFor(() => messages.length === 2);
    for (const message of messages) message.accept();
    await waitFor(() => broker.peer.of("puback").length === 2);
    expect(texts(messages)).toEqual(["a", "b"]);
    expect(session.counters().duplicates).toBe(1);
    // Acknowledged, the id is free for another message.
    broker.peer.publish(7, 1, "c");
    await waitFor(() => messages.length === 3);
    messages[2]?.accept();
    await waitFor(() => broker.peer.of("puback").length === 3);
  });

  test("accept after the connection ended does nothing, and nothing is acknowledged twice", async () => {
    const broker = await scripted();
    const session = makeSession(broker.url);
    const messages = collect(session);
    await online(session);
    broker.peer.publish(1, 1, "a");
    await waitFor(() => messages.length === 1);
    broker.peer.socket.destroy();
    await waitFor(() => broker.peers.length === 2 && session.state === "online");
    messages[0]?.accept();
    broker.peer.publish(1, 1, "a", true);
    await waitFor(() => messages.length === 2);
    expect(broker.peer.of("puback")).toEqual([]);
    messages[1]?.accept();
    await waitFor(() => broker.peer.of("puback").length === 1);
  });

  test("QoS 0 is delivered and not acknowledged", async () => {
    const broker = await scripted();
    const session = makeSession(broker.url);
    const messages = collect(session);
    await online(session);
    broker.peer.publish(0, 0, "a");
    await waitFor(() => messages.length === 1);
    messages[0]?.accept();
    await session.publish({ topic: "up/a", payload: "" }, never);
    expect(broker.peer.of("puback")).toEqual([]);
    expect(messages[0]).toMatchObject({ qos: 0, topic: "down/x", dup: false });
  });

  test("a payload over the bound is acknowledged in its place, counted and not delivered", async () => {
    const broker = await scripted();
    const session = makeSession(broker.url, { maxPayloadBytes: 1_000 });
    const messages = collect(session);
    await online(session);
    const { peer } = broker;
    peer.publish(1, 1, "small");
    peer.publish(2, 1, Buffer.alloc(3_000_000, 1));
    peer.publish(3, 1, Buffer.alloc(1_000, 1));
    peer.publish(0, 0, Buffer.alloc(1_001, 1));
    peer.publish(4, 2, Buffer.alloc(70_000, 1));
    peer.publish(5, 1, "after");
    await waitFor(() => messages.length === 3);
    expect(messages.map(({ payload }) => payload.length)).toEqual([5, 1_000, 5]);
    expect([peer.of("puback").length, session.counters().oversized]).toEqual([0, 3]);
    for (const message of messages) message.accept();
    await waitFor(() => peer.of("pubcomp").length === 1);
    expect(peer.of("puback").map(({ messageId }) => messageId)).toEqual([1, 2, 3, 5]);
    expect(session.state).toBe("online");
    expect(broker.peers).toHaveLength(1);
  });

  test("a flood of payloads over the bound is one line of the log", async () => {
    const warned: unknown[] = [];
    const warn: Logger["warn"] = (event, fields) => warned.push({ event, ...fields });
    const log: Logger = { ...silentLog, warn, child: () => log };
    const broker = await scripted();
    const session = makeSession(broker.url, { maxPayloadBytes: 10 }, { log });
    await online(session);
    for (let id = 1; id <= 500; id++) broker.peer.publish(id, 1, "more than ten");
    await waitFor(() => broker.peer.of("puback").length === 500);
    expect(session.counters().oversized).toBe(500);
    expect(warned).toEqual([
      { event: "inbound message too large", topic: "down/x", bytes: 13, count: 1 },
    ]);
  });
});

describe("the inbound bound", () => {
  test("pauses the socket, keeps the way out open, and goes on below half of it", async () => {
    const broker = await scripted();
    const clock = new FakeClock();
    const inboundBound = { messages: 100, bytes: 64_000_000 };
    const session = makeSession(broker.url, { inboundBound }, { clock });
    const messages = collect(session);
    await online(session);
    const { peer } = broker;
    const payload = Buffer.alloc(50_000, 1);
    const total = 400;
    for (let id = 1; id <= total; id++) peer.publish(id, 1, payload);
    await waitFor(() => messages.length >= 100);
    const sizeOfOne = 50_000 + 15;
    // What one read brings may come on top, and what the stream had taken in already.
    const mostRead = 100 * sizeOfOne + 3 * 65_536;
    const publisher = await session.connected(never);
    publisher?.send(batchOf(1, 5));
    await waitFor(() => peer.of("publish").length === 5);
    // Many times keep-alive and ack timeout: nothing may be judged while paused.
    for (let pings = 1; pings <= 5; pings++) {
      await clock.advance(67_500);
      await waitFor(() => peer.of("pingreq").length === pings);
    }
    expect(session.counters().bytesIn).toBeLessThan(mostRead);
    expect(session.counters().pauses).toBe(1);
    expect(session.state).toBe("online");
    let accepted = 0;
    const pump = setInterval(() => {
      while (accepted < messages.length) messages[accepted++]?.accept();
    }, 1);
    await waitFor(() => peer.of("puback").length === total);
    clearInterval(pump);
    expect(messages).toHaveLength(total);
    for await (const { to } of publisher?.acks(never) ?? []) if (to === 5) break;
    expect(broker.peers).toHaveLength(1);
  });

  test("counts bytes as well, and what nobody has read", async () => {
    const broker = await scripted();
    const session = makeSession(broker.url, { inboundBound: { messages: 1_000, bytes: 200_000 } });
    await online(session);
    const payload = Buffer.alloc(10_000, 1);
    for (let id = 1; id <= 500; id++) broker.peer.publish(0, 0, payload);
    await waitFor(() => session.counters().pauses === 1);
    expect(session.counters().bytesIn).toBeLessThan(200_000 + 4 * 65_536);
    const messages = collect(session);
    await waitFor(() => messages.length === 500);
    expect(broker.peers).toHaveLength(1);
  });

  test("what a dead connection left unaccepted does not hold up the next one", async () => {
    const broker = await scripted();
    const session = makeSession(broker.url, { inboundBound: { messages: 10, bytes: 1_000_000 } });
    const messages = collect(session);
    await online(session);
    for (let id = 1; id <= 10; id++) broker.peer.publish(id, 1, "old");
    await waitFor(() => messages.length === 10);
    broker.peer.socket.resetAndDestroy();
    await waitFor(() => broker.peers.length === 2 && session.state === "online");
    for (let id = 1; id <= 9; id++) broker.peer.publish(id, 1, "new");
    await waitFor(() => messages.length === 19);
  });
});

describe("inbound QoS 2", () => {
  test("is accepted before PUBREC, delivered once, and in line with QoS 1", async () => {
    const broker = await scripted();
    const session = makeSession(broker.url);
    const messages = collect(session);
    await online(session);
    const { peer } = broker;
    peer.send(publishPacket(1, 2, "a"), publishPacket(2, 1, "b"), publishPacket(3, 2, "c"));
    peer.publish(1, 2, "a", true);
    await waitFor(() => messages.length === 3);
    messages[1]?.accept();
    messages[2]?.accept();
    await session.publish({ topic: "up/a", payload: "" }, never);
    expect(peer.received.some(({ cmd }) => cmd === "pubrec" || cmd === "puback")).toBe(false);
    messages[0]?.accept();
    await waitFor(() => peer.of("pubcomp").length === 2);
    const acks = peer.received.filter(({ cmd }) => /pubrec|puback/.test(cmd));
    expect(acks.map(({ cmd, messageId }) => `${cmd} ${messageId}`)).toEqual([
      "pubrec 1",
      "puback 2",
      "pubrec 3",
    ]);
    expect(messages.map(({ qos }) => qos)).toEqual([2, 1, 2]);
    // The ids are free again.
    peer.publish(1, 2, "d");
    await waitFor(() => messages.length === 4);
    expect(texts(messages)).toEqual(["a", "b", "c", "d"]);
  });

  test("survives a cut between PUBREC and PUBREL, and one before PUBREC", async () => {
    const broker = await scripted((packet, peer) => {
      if (packet.cmd === "connect") {
        peer.send({ cmd: "connack", returnCode: 0, sessionPresent: peer.index > 0 });
        return true;
      }
      return packet.cmd === "pubrec" && peer.index === 0;
    });
    const session = makeSession(broker.url);
    const messages = collect(session);
    await online(session);
    broker.peer.publish(1, 2, "a");
    broker.peer.publish(2, 2, "b");
    await waitFor(() => messages.length === 2);
    messages[0]?.accept();
    await waitFor(() => broker.peer.of("pubrec").length === 1);
    broker.peer.socket.destroy();
    await waitFor(() => broker.peers.length === 2 && session.state === "online");
    // This service did not see the PUBREC of 1, and never got one for 2.
    broker.peer.publish(1, 2, "a", true);
    broker.peer.publish(2, 2, "b", true);
    await waitFor(() => broker.peer.of("pubcomp").length === 1);
    messages[1]?.accept();
    await waitFor(() => broker.peer.of("pubcomp").length === 2);
    broker.peer.publish(1, 2, "c");
    await waitFor(() => messages.length === 3);
    expect(texts(messages)).toEqual(["a", "b", "c"]);
  });

  test("a service that forgot the session begins anew: the same id is another message", async () => {
    const broker = await scripted((packet) => packet.cmd === "pubrec");
    const session = makeSession(broker.url);
    const messages = collect(session);
    await online(session);
    broker.peer.publish(1, 2, "a");
    await waitFor(() => messages.length === 1);
    messages[0]?.accept();
    await waitFor(() => broker.peer.of("pubrec").length === 1);
    broker.script = (packet, peer) => {
      if (packet.cmd !== "connect") return false;
      // In one piece with the CONNACK, before the session is told that it is online.
      peer.send({ cmd: "connack", returnCode: 0, sessionPresent: false }, publishPacket(1, 2, "b"));
      return true;
    };
    broker.peer.socket.destroy();
    await waitFor(() => messages.length === 2);
    expect(texts(messages)).toEqual(["a", "b"]);
  });
});
