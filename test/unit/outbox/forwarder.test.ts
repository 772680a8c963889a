import { describe, expect, test } from "vitest";
import { AssertionFailure } from "../../../agent/core/assert.ts";
import { silentLog } from "../../../agent/core/log.ts";
import { Forwarder } from "../../../agent/outbox/outbox.ts";
import { type Received, SimLink } from "../../support/sim-link.ts";
import { never, numbers, startRig } from "./rig.ts";

async function startForwarding(options: { window: number; maxRate?: number }) {
  const rig = await startRig();
  const received: Received[] = [];
  let offer: (link: SimLink) => void = () => undefined;
  let offered = new Promise<SimLink>((resolve) => {
    offer = resolve;
  });
  const forwarder = new Forwarder(
    { window: options.window, maxRate: options.maxRate ?? 0 },
    {
      outbox: rig.outbox,
      connected: (signal) =>
        Promise.race([
          offered,
          new Promise<undefined>((resolve) => {
            signal.addEventListener("abort", () => resolve(undefined), { once: true });
          }),
        ]),
      clock: rig.clock,
      log: silentLog,
    },
  );
  await forwarder.start();
  const connect = async (): Promise<SimLink> => {
    const link = new SimLink((message) => received.push(message));
    const use = offer;
    offered = new Promise((resolve) => {
      offer = resolve;
    });
    use(link);
    await rig.clock.advance(0);
    return link;
  };
  const cut = async (link: SimLink): Promise<void> => {
    link.close();
    await rig.clock.advance(0);
  };
  return { ...rig, forwarder, received, connect, cut };
}

const textsOf = (list: readonly Received[]): string[] => list.map(({ text }) => text);

describe("the window", () => {
  test("is never passed, and every acknowledgement lets one more go", async () => {
    const { clock, put, forwarder, received, connect } = await startForwarding({ window: 8 });
    await Promise.all(numbers(1, 50).map((n) => put(n)));
    const link = await connect();
    expect(textsOf(received)).toEqual(numbers(1, 8));
    for (let acked = 1; acked <= 50; acked++) {
      link.ack();
      await clock.advance(0);
      expect(link.unacked.length).toBeLessThanOrEqual(8);
      expect(forwarder.inFlight).toBe(link.unacked.length);
      expect(received.length).toBe(Math.min(50, acked + 8));
    }
    expect(textsOf(received)).toEqual(numbers(1, 50));
    expect(received.some(({ dup }) => dup)).toBe(false);
  });

  test("acknowledgements in any order settle their own message", async () => {
    const { clock, put, received, connect, cut, statsOf } = await startForwarding({ window: 4 });
    await Promise.all(numbers(1, 4).map((n) => put(n)));
    const link = await connect();
    link.ack(2);
    link.ack(0);
    await clock.advance(0);
    expect(statsOf().messages).toBe(2);
    await cut(link);
    received.length = 0;
    await connect();
    expect(textsOf(received)).toEqual(["2", "4"]);
  });

  test("acknowledgements of what is not in flight change nothing", async () => {
    const { outbox, clock, put, forwarder, received, connect, cut, statsOf } =
      await startForwarding({ window: 4 });
    await Promise.all(numbers(1, 6).map((n) => put(n)));
    const link = await connect();
    // Twice the same, one that was not sent yet, one of another life.
    const first = link.unacked[0] as Received;
    link.ack(0);
    link.unacked.unshift(first);
    link.ack(0);
    link.unacked.unshift({ ...first, id: `${outbox.epoch}-99` });
    link.ack(0);
    link.unacked.unshift({ ...first, id: "01JD0000000000000000000000-2" });
    link.ack(0);
    await clock.advance(0);
    expect(statsOf().messages).toBe(5);
    expect(forwarder.inFlight).toBe(4);
    await cut(link);
    received.length = 0;
    await connect();
    expect(textsOf(received)).toEqual(["2", "3", "4", "5"]);
  });

  test.each([0, 60_000])("of %i messages is a broken assumption", (window) => {
    const deps = { outbox: {} as never, connected: () => Promise.resolve(undefined) };
    const make = () =>
      new Forwarder({ window, maxRate: 0 }, { ...deps, clock: {} as never, log: silentLog });
    expect(make).toThrow(AssertionFailure);
  });
});

describe("after a reconnect", () => {
  test("what was in flight goes first, in order, with DUP and the ids it had", async () => {
    const { clock, put, forwarder, received, connect, cut } = await startForwarding({ window: 5 });
    await Promise.all(numbers(1, 9).map((n) => put(n)));
    const first = await connect();
    first.ack(0);
    await clock.advance(0);
    const before = received.slice(1);
    expect(textsOf(before)).toEqual(numbers(2, 6));
    received.length = 0;
    await cut(first);

    const second = await connect();
    expect(received).toEqual(before.map((message) => ({ ...message, dup: true })));
    expect(forwarder.resent).toBe(5);
    await cut(second);
    received.length = 0;
    const third = await connect();
    expect(received).toEqual(before.map((message) => ({ ...message, dup: true })));
    while (third.unacked.length > 0) {
      third.ack();
      await clock.advance(0);
    }
    expect(textsOf(received)).toEqual(numbers(2, 9));
    const fresh = received.slice(5);
    expect(fresh.some(({ dup }) => dup)).toBe(false);
  });

  test("the outbox knows when nobody can acknowledge", async () => {
    const { clock, put, connect, cut, store } = await startForwarding({ window: 5 });
    const link = await connect();
    const online = put("a");
    await clock.advance(10);
    link.ack();
    expect((await online).safe).toBe("broker");
    await cut(link);
    expect((await put("b")).safe).toBe("disk");
    expect(store.syncs).toBe(1);
  });
});

test("packet ids in flight differ, also when old ones hold on while the others go round", async () => {
  const { clock, outbox, forwarder, connect } = await startForwarding({ window: 1_000 });
  const link = await connect();
  const payload = Buffer.from("x");
  const put = (): void => {
    outbox.put({ topic: "up/t", payload, lane: "telemetry" }).catch(() => undefined);
  };
  for (let i = 0; i < 3; i++) put();
  await clock.advance(0);
  expect(link.unacked.map(({ packetId }) => packetId)).toEqual([1, 2, 3]);
  link.ack(1); // 1 and 3 stay.
  for (let sent = 0; sent < 60_500; sent += 500) {
    for (let i = 0; i < 500; i++) put();
    await clock.advance(0);
    const ids = link.unacked.map(({ packetId }) => packetId);
    expect(new Set(ids).size).toBe(ids.length);
    expect(Math.max(...ids)).toBeLessThanOrEqual(60_000);
    while (link.unacked.length > 2) link.ack(link.unacked.length - 1);
    await clock.advance(0);
    expect(forwarder.inFlight).toBe(2);
  }
});

describe("pacing", () => {
  test("sends no more a second than it may, and makes up for no pause", async () => {
    const { clock, put, received, connect } = await startForwarding({ window: 1_000, maxRate: 10 });
    await Promise.all(numbers(1, 200).map((n) => put(n)));
    await connect();
    await clock.advance(1_000);
    expect(received.length).toBeGreaterThanOrEqual(10);
    expect(received.length).toBeLessThanOrEqual(11);
    await clock.advance(4_000);
    expect(received.length).toBeGreaterThanOrEqual(50);
    expect(received.length).toBeLessThanOrEqual(51);

    await clock.advance(30_000);
    expect(textsOf(received)).toEqual(numbers(1, 200));
    await clock.advance(60_000); // Nothing to send for a minute.
    const later = numbers(201, 260).map((n) => put(n));
    await clock.advance(1_000);
    await Promise.all(later);
    expect(received.length).toBeLessThanOrEqual(212);
  });

  test("without a limit all goes at once", async () => {
    const { put, received, connect } = await startForwarding({ window: 1_000 });
    await Promise.all(numbers(1, 500).map((n) => put(n)));
    await connect();
    expect(received.length).toBe(500);
  });
});

describe("stopping", () => {
  test("ends while waiting for a connection, for room and for messages", async () => {
    const offline = await startForwarding({ window: 2 });
    await offline.forwarder.stop();
    const full = await startForwarding({ window: 2 });
    await Promise.all(numbers(1, 5).map((n) => full.put(n)));
    await full.connect();
    await full.forwarder.stop();
    expect(full.received.length).toBe(2);
    const empty = await startForwarding({ window: 2 });
    await empty.connect();
    await empty.forwarder.stop();
    await empty.forwarder.stop();
  });

  test("an outbox that stopped first leaves nothing spinning", async () => {
    const { outbox, clock, put, forwarder, connect, statsOf } = await startForwarding({
      window: 2,
    });
    await Promise.all(numbers(1, 5).map((n) => put(n)));
    const link = await connect();
    await outbox.stop(never);
    link.ack();
    await clock.advance(0); // A loop without a wait would never come back from here.
    expect(statsOf().messages).toBe(4);
    await forwarder.stop();
  });
});
