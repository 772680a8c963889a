/** The packed queue of records, beside a plain one that keeps every object. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Deque } from "../../../agent/outbox/deque.ts";
import type { StoredRecord } from "../../../agent/outbox/entry.ts";
import { Lane } from "../../../agent/outbox/lane.ts";
import { StoredQueue } from "../../../agent/outbox/stored-queue.ts";
import { heldMemory } from "../../support/held-memory.ts";
import { lane as laneOptions } from "./rig.ts";

const lane = new Lane("telemetry", laneOptions());

function record(number: number, more: Partial<StoredRecord> = {}): StoredRecord {
  return {
    ...{
      lane,
      number,
      count: 1,
      bytes: 300,
      gone: 0,
      held: 0,
      heldBytes: 0,
      queued: true,
      pins: 0,
    },
    time: { bootId: "boot-1", monotonicMs: number * 1.5, wallMs: 1e12 + number, trusted: true },
    ...{ epoch: "01JDZZZZZZZZZZZZZZZZZZZZZZ", firstSeq: number * 2, lastSeq: number * 2, ...more },
  };
}

const wide = fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 2 ** 47 }));
const anyRecord = fc
  .record({
    ...{ number: wide, count: fc.integer({ min: 1, max: 32 }), firstSeq: wide },
    span: fc.oneof(fc.integer({ min: 0, max: 40 }), fc.constantFrom(65_534, 65_535, 2 ** 33)),
    bytes: fc.oneof(fc.nat(70_000), fc.constantFrom(2 ** 31, 2 ** 32 - 1)),
    gone: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.integer()),
    epoch: fc.constantFrom("A".repeat(26), "B".repeat(26)),
    bootId: fc.constantFrom("boot-1", "boot-2", ""),
    trusted: fc.boolean(),
    us: fc.oneof(fc.nat(1_000_000), fc.nat(), fc.integer({ min: 0, max: 2 ** 50 })),
    wallMs: fc.oneof(fc.nat(1_000), fc.integer({ min: 0, max: 2 ** 45 })),
    known: fc.constantFrom("no", "no", "no", "held", "pinned"),
  })
  .map(({ us, wallMs, bootId, trusted, span, known, ...rest }) =>
    record(0, {
      ...rest,
      lastSeq: rest.firstSeq + span,
      time: { bootId, monotonicMs: us / 1_000, wallMs, trusted },
      ...(known === "held" && { held: 3, heldBytes: 5 }),
      ...(known === "pinned" && { pins: 1 }),
    }),
  );

type Action =
  | { readonly do: "push"; readonly record: StoredRecord; readonly times: number }
  | { readonly do: "shift"; readonly times: number; readonly back: boolean }
  | { readonly do: "peek" | "filter" | "change" };

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("push" as const),
      record: anyRecord,
      times: fc.constantFrom(1, 1, 1, 2, 70),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("shift" as const),
      times: fc.constantFrom(1, 3, 100),
      back: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("peek", "filter", "change") }) },
);

/** The same record, if not the same object. */
function expectSame(ours: StoredRecord | undefined, plain: StoredRecord | undefined): void {
  expect(ours).toEqual(plain);
  const isKnown = plain !== undefined && (plain.held !== 0 || plain.pins > 0);
  if (isKnown) expect(ours).toBe(plain);
}

describe("a queue of records", () => {
  test("is a plain one, whatever comes", () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const ours = new StoredQueue(lane);
        const plain = new Deque<StoredRecord>();
        const known: StoredRecord[] = [];
        for (const one of actions) {
          if (one.do === "push") {
            for (let i = 0; i < one.times; i++) {
              const pushed = { ...one.record, number: one.record.number + i };
              if (pushed.held !== 0 || pushed.pins > 0) known.push(pushed);
              // What is packed is copied: the plain queue gets an object of its own.
              const shared = pushed.held !== 0 || pushed.pins > 0;
              ours.push(pushed);
              plain.push(shared ? pushed : { ...pushed });
            }
          } else if (one.do === "shift") {
            const shifted: [StoredRecord[], StoredRecord[]] = [[], []];
            for (let i = 0; i < one.times && plain.length > 0; i++) {
              const pair = [ours.shift(), plain.shift()] as [StoredRecord, StoredRecord];
              expectSame(...pair);
              for (const side of [0, 1] as const) shifted[side].push(pair[side]);
            }
            if (one.back) {
              ours.unshift(shifted[0]);
              plain.unshift(shifted[1]);
            }
          } else if (one.do === "peek") {
            expectSame(ours.peek(), plain.peek());
          } else if (one.do === "filter") {
            const keep = ({ number }: StoredRecord): boolean => number % 3 !== 0;
            ours.filter(keep);
            plain.filter(keep);
          } else {
            // Whoever holds a record of the queue changes what the queue gives later.
            for (const each of known) each.gone |= 4;
            const [head, same] = [ours.peek(), plain.peek()];
            if (head && same && head !== same) {
              head.gone |= 8;
              same.gone |= 8;
            }
          }
          expect(ours.length).toBe(plain.length);
        }
        while (plain.length > 0) expectSame(ours.shift(), plain.shift());
        expect([ours.shift(), ours.peek(), ours.length]).toEqual([undefined, undefined, 0]);
      }),
      { numRuns: 300 },
    );
  });

  test("packs one that memory let go of since it was pushed", () => {
    const queue = new StoredQueue(lane);
    const first = record(1, { held: 1, heldBytes: 300 });
    queue.push(first);
    first.held = 0;
    first.heldBytes = 0;
    queue.push(record(2));
    const packed = queue.shift();
    expect(packed).toEqual(first);
    expect(packed).not.toBe(first);
  });

  test("gives all of its chunks back in order", () => {
    const queue = new StoredQueue(lane);
    for (let n = 1; n <= 20_000; n++) queue.push(record(n));
    expect(queue.length).toBe(20_000);
    for (let n = 1; n <= 20_000; n++) {
      const given = queue.shift();
      if (given?.number !== n || given.firstSeq !== n * 2) expect(given).toEqual(record(n));
    }
    expect(queue.length).toBe(0);
  });

  test("a clock that jumps to and fro, and its trust, cost no object for each record", () => {
    const queue = new StoredQueue(lane);
    const before = heldMemory();
    const count = 50_000;
    for (let n = 1; n <= count; n++) {
      const wallMs = (n % 2) * 1e12;
      const time = { bootId: `boot-${n % 3}`, monotonicMs: n, wallMs, trusted: n % 5 === 0 };
      queue.push(record(n, { time }));
    }
    expect((heldMemory() - before) / count).toBeLessThan(36);
    expect(queue.shift()?.time).toEqual({
      ...{ bootId: "boot-1", monotonicMs: 1, wallMs: 1e12, trusted: false },
    });
  });
});
