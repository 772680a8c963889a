/** The rules by which a message is found guilty of closed connections. */
import { expect, test } from "vitest";
import type { Close } from "../../../agent/core/message.ts";
import {
  acknowledged,
  calm,
  type Ended,
  ended,
  probeMs,
  type Suspicion,
} from "../../../agent/outbox/suspicion.ts";
import { SeededRandom } from "../../support/seeded-random.ts";

const options = { window: 64, ackTimeoutMs: 30_000 };
const reset: Close = {
  reason: "network",
  error: Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" }),
};

function facts(unacked: readonly string[], more: Partial<Ended<string>> = {}): Ended<string> {
  const close: Close = { reason: "peer_closed" };
  const times = { nowMs: 1_010, publishedAtMs: 1_000 };
  return { close, ...times, unacked, acks: 0, wentThrough: () => false, ...more };
}

/** The same end again and again: the windows on the way, and the verdict. */
function repeat(end: Ended<string>, times: number, from: Suspicion<string> = calm(options)) {
  let state = from;
  const windows: number[] = [];
  for (let n = 1; n <= times; n++) {
    const unacked = end.unacked.slice(0, state.window);
    const judged = ended(state, { ...end, unacked }, options);
    state = judged.state;
    if (judged.guilty) return { state, windows, guilty: judged.guilty.message, closes: n };
    windows.push(state.window);
  }
  return { state, windows, guilty: undefined, closes: times };
}

const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `m${i}`);

test("a guilty head is found by halving the window, in seven closes", () => {
  const { windows, guilty, closes, state } = repeat(facts(names(64)), 20);
  expect(windows).toEqual([32, 16, 8, 4, 2, 1]);
  expect([guilty, closes]).toEqual(["m0", 7]);
  expect(state.window).toBe(64);
});

test("one alone takes as many closes; a reset counts as a close", () => {
  expect(repeat(facts(["m0"], { close: reset }), 20)).toMatchObject({ guilty: "m0", closes: 7 });
});

test("wherever it is in the window, at most nine closes, and nobody else is found guilty", () => {
  for (let bad = 0; bad < 64; bad++) {
    // A service that acknowledges nothing of what came in one piece with the guilty one.
    let state = calm<string>(options);
    let head = 0;
    let closes = 0;
    for (let guilty: string | undefined; guilty === undefined; closes++) {
      while (head + state.window <= bad) state = acknowledged(state, `m${head++}`, options);
      const unacked = names(64).slice(head, head + state.window);
      const judged = ended(state, facts(unacked), options);
      ({ state } = judged);
      guilty = judged.guilty?.message;
      if (guilty !== undefined) expect(guilty).toBe(`m${bad}`);
      expect(closes).toBeLessThan(10);
    }
    expect(closes).toBeLessThanOrEqual(9);
  }
});

test.each<Close>([
  { reason: "stopped" },
  { reason: "ack_timeout" },
  { reason: "keepalive" },
  { reason: "takeover" },
  { reason: "protocol" },
  { reason: "network" },
  { reason: "network", error: Object.assign(new Error("gone"), { code: "EHOSTUNREACH" }) },
])("an end by $reason never counts", (close) => {
  const { guilty, state } = repeat(facts(["m0"], { close }), 50);
  expect([guilty, state.window, state.closes]).toEqual([undefined, 64, 0]);
});

test.each([1, 2, 3, 8, -1, 77])("a notice with code %i explains the close", (notice) => {
  const { guilty, state } = repeat(facts(["m0"], { notice }), 50);
  expect([guilty, state.closes]).toEqual([undefined, 0]);
});

test.each([4, 5])("a notice with code %i is proof against one that is alone", (notice) => {
  expect(repeat(facts(["m0"], { notice }), 1)).toMatchObject({ guilty: "m0", closes: 1 });
  expect(repeat(facts(names(64), { notice }), 20)).toMatchObject({ guilty: "m0", closes: 7 });
  expect(repeat(facts(names(2), { notice }), 1).guilty).toBeUndefined();
});

test("a close later than the acknowledgement timeout, or with nothing unacknowledged, says nothing", () => {
  expect(repeat(facts(["m0"], { nowMs: 31_001 }), 50).guilty).toBeUndefined();
  expect(repeat(facts([]), 50).state.closes).toBe(0);
});

test("a connection that ends while nothing is published on it takes the evidence away", () => {
  const six = repeat(facts(["m0"]), 6).state;
  const idle = ended(six, facts([], { publishedAtMs: undefined }), options).state;
  expect(idle).toMatchObject({ closes: 0, streak: 0, link: { closes: 7 } });
  // And from then on more is needed, because the link is known to break.
  expect(repeat(facts(["m0"]), 12, idle).guilty).toBeUndefined();
});

test("from the second close on each connection begins with a pause, longer than the service took to close", () => {
  expect(probeMs(calm<string>(options), options)).toBe(0);
  const first = ended(calm<string>(options), facts(names(4)), options).state;
  expect(probeMs(first, options)).toBe(0);
  const quick = ended(first, facts(names(2)), options).state;
  expect(probeMs(quick, options)).toBe(250);
  const slow = ended(quick, facts(["m0"], { nowMs: 3_000 }), options).state;
  expect(probeMs(slow, options)).toBe(8_000);
  const slowest = ended(slow, facts(["m0"], { nowMs: 20_000 }), options).state;
  expect(probeMs(slowest, options)).toBe(30_000);
});

test("when all suspects are acknowledged it was the link, and that is remembered for an hour", () => {
  let state = ended(calm<string>(options), facts(["a", "b"]), options).state;
  expect(state.window).toBe(1);
  state = acknowledged(state, "a", options);
  expect(state.window).toBe(1);
  state = acknowledged(state, "b", options);
  expect(state).toMatchObject({ window: 64, suspects: [], closes: 0, link: { closes: 1 } });
  expect(repeat(facts(["m0"]), 12, state).guilty).toBeUndefined();
  const later = { nowMs: 3_700_000, publishedAtMs: 3_699_990 };
  expect(repeat(facts(["m0"], later), 12, state)).toMatchObject({ guilty: "m0", closes: 7 });
});

test("more is needed where the topic went through before", () => {
  const good = facts(["m0"], { wentThrough: () => true });
  expect(repeat(good, 20)).toMatchObject({ guilty: "m0", closes: 8 });
});

test("a busy link that closes now and then does not make a verdict harder", () => {
  let state = calm<string>(options);
  for (let n = 0; n < 10; n++) {
    state = ended(state, facts(["m0"], { acks: 5_000 }), options).state;
    state = acknowledged(state, "m0", options);
  }
  expect(state.link).toMatchObject({ closes: 10, acks: 50_000 });
  expect(repeat(facts(["bad"]), 20, state)).toMatchObject({ guilty: "bad", closes: 7 });
});

test("on links that reset after 30 % of the publishes nobody is found guilty, 20 simulated hours", () => {
  let closes = 0;
  for (let seed = 1; seed <= 20; seed++) {
    const random = new SeededRandom(seed);
    let state = calm<string>(options);
    let next = 0;
    let goodTopic = false;
    for (let nowMs = 0; nowMs < 3_600_000; nowMs += 1_000) {
      const burst = 1 + random.int(100);
      let acks = 0;
      while (random.float() >= 0.3 && acks < 2_000) {
        state = acknowledged(state, `m${next++}`, options);
        goodTopic = true;
        acks++;
      }
      const unacked = Array.from({ length: Math.min(burst, state.window) }, (_, i) => {
        return `m${next + i}`;
      });
      const end = { nowMs, publishedAtMs: nowMs - 5, acks, close: reset };
      const judged = ended(
        state,
        facts(unacked, { ...end, wentThrough: () => goodTopic }),
        options,
      );
      expect(judged.guilty, `seed ${seed}`).toBeUndefined();
      ({ state } = judged);
      closes++;
    }
  }
  expect(closes).toBe(72_000);
});
