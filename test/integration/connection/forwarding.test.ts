import { describe, expect, test } from "vitest";
import type { Publisher, Session } from "../../../agent/connection/connection.ts";
import { SeededRandom } from "../../support/seeded-random.ts";
import { waitFor } from "../../support/wait-for.ts";
import { batchOf, EPOCH, makeSession, never, online, scripted } from "./harness.ts";

async function publisherOf(session: Session): Promise<Publisher> {
  const publisher = await session.connected(never);
  if (!publisher) throw new Error("The session ended.");
  return publisher;
}

async function seqsOf(publisher: Publisher): Promise<number[]> {
  const seqs: number[] = [];
  for await (const { epoch, from, to } of publisher.acks(never)) {
    expect(epoch).toBe(EPOCH);
    for (let seq = from; seq <= to; seq++) seqs.push(seq);
  }
  return seqs;
}

describe("batches of the forwarder", () => {
  test("arrive as they are; acknowledgements come back merged per read", async () => {
    const broker = await scripted((packet, peer) => {
      if (packet.cmd !== "publish") return false;
      if (packet.messageId === 100) {
        // One write, so one read most likely: 1 to 100 in two pieces, 50 left out.
        const ids = Array.from({ length: 100 }, (_, i) => i + 1).filter((id) => id !== 50);
        peer.send(...ids.map((messageId) => ({ cmd: "puback", messageId }) as const));
      }
      return true;
    });
    const session = makeSession(broker.url);
    await online(session);
    const publisher = await publisherOf(session);
    publisher.send(batchOf(1, 100));
    const ranges = [];
    for await (const range of publisher.acks(never)) {
      ranges.push(range);
      if (range.to === 100) break;
    }
    expect(ranges).toEqual([
      { epoch: EPOCH, from: 1, to: 49 },
      { epoch: EPOCH, from: 51, to: 100 },
    ]);
    const publishes = broker.peer.of("publish");
    expect(publishes.map(({ payload }) => Number(payload.toString()))).toEqual(
      Array.from({ length: 100 }, (_, i) => i + 1),
    );
    expect(publishes.every(({ qos, dup }) => qos === 1 && !dup)).toBe(true);
  });

  test("mix with control packets only at packet boundaries", async () => {
    const broker = await scripted();
    const session = makeSession(broker.url);
    await online(session);
    const publisher = await publisherOf(session);
    const control: Promise<unknown>[] = [];
    const payload = Buffer.alloc(60_000, 7);
    for (let i = 0; i < 50; i++) {
      control.push(session.publish({ topic: "up/control", payload }, never));
      publisher.send(batchOf(i * 10 + 1, i * 10 + 10));
      control.push(session.subscribe(`down/${i}`, 1, never));
      if (i % 7 === 0) await new Promise(setImmediate);
    }
    await Promise.all(control);
    await waitFor(() => broker.peer.of("publish").length === 550);
    const sizes = broker.peer.of("publish").filter(({ topic }) => topic === "up/control");
    expect(sizes.every((packet) => Buffer.compare(packet.payload as Buffer, payload) === 0)).toBe(
      true,
    );
    expect(broker.peers).toHaveLength(1);
  });

  test("a PUBACK that nobody waits for is counted and ignored", async () => {
    const broker = await scripted((packet, peer) => {
      if (packet.cmd === "publish") peer.send({ cmd: "puback", messageId: 777 });
    });
    const session = makeSession(broker.url);
    await online(session);
    const publisher = await publisherOf(session);
    publisher.send(batchOf(1, 1));
    for await (const range of publisher.acks(never)) {
      expect(range).toEqual({ epoch: EPOCH, from: 1, to: 1 });
      break;
    }
    expect(session.counters().strayAcks).toBe(1);
    expect(session.counters().bytesOut).toBeGreaterThan(0);
    expect(session.state).toBe("online");
  });

  test("no PUBACK within the ack timeout ends the connection with that reason", async () => {
    const broker = await scripted((packet) => packet.cmd === "publish");
    const session = makeSession(broker.url, { ackTimeoutMs: 60 });
    await online(session);
    const publisher = await publisherOf(session);
    publisher.send(batchOf(1, 3));
    expect(await publisher.closed).toMatchObject({ reason: "ack_timeout" });
    expect(session.info().lastError?.code).toBe("ack_timeout");
    await waitFor(() => broker.peers.length >= 2 && session.state === "online");
    publisher.send(batchOf(1, 3)); // The old connection's: nothing happens.
    expect(await seqsOf(publisher)).toEqual([]);
  });

  test("acknowledgements in single bytes, and those just before a close, all count", async () => {
    const broker = await scripted((packet, peer) => {
      if (packet.cmd !== "publish") return false;
      for (const byte of [0x40, 2, 0, packet.messageId ?? 0]) peer.sendRaw(Uint8Array.of(byte));
      if (packet.messageId === 20) peer.socket.end();
      return true;
    });
    const session = makeSession(broker.url);
    await online(session);
    broker.peer.socket.setNoDelay(true);
    const publisher = await publisherOf(session);
    publisher.send(batchOf(1, 20));
    expect(await publisher.closed).toMatchObject({ reason: "peer_closed" });
    expect(await seqsOf(publisher)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
  });

  test("10,000 in windows with random cuts: what is acknowledged is what the service took", async () => {
    const total = 10_000;
    const random = new SeededRandom(20_261_123);
    let left = 400;
    const acked: Set<number>[] = [];
    const broker = await scripted((packet, peer) => {
      if (packet.cmd === "connect") acked[peer.index] = new Set();
      if (packet.cmd !== "publish") return false;
      const seq = Number(packet.payload.toString());
      if (--left <= 0) {
        left = Math.floor(random.float() * 800);
        if (random.float() < 0.5) peer.socket.resetAndDestroy();
        else peer.socket.end();
        return true;
      }
      acked.at(peer.index)?.add(seq);
      peer.send({ cmd: "puback", messageId: packet.messageId ?? 0 });
      return true;
    });
    const session = makeSession(broker.url, { reconnect: fast });
    await session.start(never);
    const settled = new Set<number>();
    let connections = 0;
    while (settled.size < total) {
      const publisher = await publisherOf(session);
      const index = broker.peers.length - 1;
      connections++;
      const onThis = new Set<number>();
      let next = 1;
      const inFlight = new Set<number>();
      const fill = (): void => {
        while (inFlight.size < 64 && next <= total) {
          if (settled.has(next)) next++;
          else {
            publisher.send(batchOf(next, next));
            inFlight.add(next++);
          }
        }
      };
      fill();
      for await (const { from, to } of publisher.acks(never)) {
        for (let seq = from; seq <= to; seq++) {
          expect(onThis.has(seq), "no acknowledgement comes twice").toBe(false);
          expect(acked[index]?.has(seq), "the service sent it").toBe(true);
          onThis.add(seq);
          inFlight.delete(seq);
          settled.add(seq);
        }
        if (settled.size === total) break;
        fill();
      }
    }
    expect(connections).toBeGreaterThan(10);
    expect(session.counters().strayAcks).toBe(0);
  });
});

const fast = { minMs: 1, maxMs: 2, refusedMinMs: 1, takeoverMinMs: 1 };

describe("a notice before the close", () => {
  const noticed = (topic: string, payload: string) =>
    scripted((packet, peer) => {
      if (packet.cmd !== "publish") return false;
      peer.send({ cmd: "publish", topic, payload, qos: 0, dup: false, retain: false });
      peer.socket.end();
      return true;
    });

  test.each([
    ["lmq", "$SYS/tokenInvalidNotice", '{"code":4,"type":"W"}', 4],
    ["lmq", "$SYS/tokenInvalidNotice", '{"code":"4"}', undefined],
    ["lmq", "$SYS/tokenInvalidNotice", "{", undefined],
    ["lmq", "$SYS/tokenExpireNotice", '{"code":4,"type":"W"}', undefined],
    ["mqtt", "$SYS/tokenInvalidNotice", '{"code":4,"type":"W"}', undefined],
  ] as const)("profile %s, %s %s: %s", async (profile, topic, payload, notice) => {
    const broker = await noticed(topic, payload);
    const session = makeSession(broker.url, { profile });
    await online(session);
    const publisher = await session.connected(never);
    publisher?.send(batchOf(1, 1));
    const close = await publisher?.closed;
    expect(close?.reason).toBe("peer_closed");
    expect(close?.notice).toBe(notice);
    await waitFor(() => session.info().lastError !== undefined);
    const said = "the token does not cover the topic (notice 4)";
    expect(session.info().lastError?.message.includes(said)).toBe(notice === 4);
  });
});
