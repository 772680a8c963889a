import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodePublish } from "../../../agent/core/publish-packet.ts";
import { toBatch } from "../../../agent/outbox/batch.ts";
import type { Entry, StoredRecord } from "../../../agent/outbox/entry.ts";
import { InFlight } from "../../../agent/outbox/in-flight.ts";
import { Lane } from "../../../agent/outbox/lane.ts";
import { decodePlainRecord, decodeRecord, encodeRecord } from "../../../agent/outbox/record.ts";
import { entriesOf, isRunOver, type Run, takeSlice } from "../../../agent/outbox/run.ts";

const EPOCH = "01JD0000000000000000000000";
const time = { bootId: "boot", monotonicMs: 5_000, wallMs: 9_000, trusted: true };
const options = { priority: 5, maxMessages: 9, maxBytes: 9, ttlMs: 0, whenFull: "refuse" } as const;
const lane = new Lane("telemetry", options);

interface Message {
  readonly seq: number;
  readonly offsetMs: number;
  readonly ttlMs: number;
  readonly key: string;
  readonly producerId: string;
  readonly packet: Uint8Array;
}

function message(seq: number, more: Partial<Message> = {}): Message {
  const { bytes } = encodePublish(`up/${seq % 3}`, Buffer.alloc(seq % 300, `${seq}`));
  return { seq, offsetMs: 0, ttlMs: 0, key: "", producerId: "", packet: bytes, ...more };
}

function runOf(firstSeq: number, count: number, ttlMs = 0): Run {
  const messages = Array.from({ length: count }, (_, i) => {
    return message(firstSeq + i, { offsetMs: i * 2, ttlMs });
  });
  const content = decodePlainRecord(encodeRecord(7, EPOCH, time, messages));
  if (!content) throw new Error("it is a plain record");
  const bytes = content.packetBytes;
  const record: StoredRecord = {
    ...{ lane, number: 7, count, bytes, gone: 0, held: -1, heldBytes: bytes },
    ...{ queued: false, pins: 0 },
    ...{ time, epoch: EPOCH, firstSeq, lastSeq: firstSeq + count - 1 },
  };
  return { record, content, next: 0 };
}

describe("a plain record", () => {
  const anyMessages = fc.array(
    fc.record({ offsetMs: fc.nat(90), ttlMs: fc.constantFrom(0, 60_000), named: fc.boolean() }),
    { minLength: 1, maxLength: 32 },
  );

  test("has what the same bytes hold message by message, and no other is taken for one", () => {
    fc.assert(
      fc.property(anyMessages, fc.boolean(), (parts, plain) => {
        const messages = parts.map(({ offsetMs, ttlMs, named }, i) => {
          if (plain) return message(10 + i, { offsetMs });
          return message(10 + 2 * i, { offsetMs, ttlMs, key: named ? "k" : "" });
        });
        const bytes = encodeRecord(3, EPOCH, time, messages);
        const content = decodePlainRecord(bytes);
        const single = decodeRecord(bytes).messages;
        const isPlain = single.every(
          ({ seq, ttlMs, key }, i) =>
            key === "" && seq === 10 + i && ttlMs === (single[0]?.ttlMs ?? 0),
        );
        expect(content !== undefined).toBe(isPlain);
        if (!content) return;
        expect(content.firstSeq).toBe(single[0]?.seq);
        for (const [i, { packet, offsetMs, ttlMs }] of single.entries()) {
          const [start, end] = [content.packetStarts[i], content.packetEnds[i]];
          expect(content.bytes.subarray(start, end)).toEqual(Buffer.from(packet));
          expect([content.offsetsMs[i], content.ttlMs]).toEqual([offsetMs, ttlMs]);
        }
      }),
    );
  });

  test("a byte too few or too many is damage", () => {
    const bytes = encodeRecord(3, EPOCH, time, [message(1), message(2)]);
    expect(() => decodePlainRecord(bytes.subarray(0, -1))).toThrow("not well-formed");
    expect(() => decodePlainRecord(Buffer.concat([bytes, Buffer.alloc(1)]))).toThrow(
      "not well-formed",
    );
  });
});

describe("a run", () => {
  test("gives slices that fit, and the same packets as its entries", () => {
    const run = runOf(100, 32);
    const slices = [];
    while (run.next < 32) slices.push(takeSlice(run, { messages: 10, bytes: 1_500 }));
    const entries = entriesOf(runOf(100, 32));
    expect(slices.reduce((sum, { count }) => sum + count, 0)).toBe(32);
    expect(slices.every(({ count, bytes }) => count <= 10 && bytes <= 1_500)).toBe(true);
    expect(slices.some(({ bytes }) => bytes > 1_000)).toBe(true);
    expect(toBatch(slices)).toEqual(toBatch(entries));
    expect(entries.map(({ acceptedAt }) => acceptedAt.monotonicMs)).toEqual(
      entries.map((_, i) => 5_000 + 2 * i),
    );
  });

  test("gives at least one message, however large", () => {
    expect(takeSlice(runOf(299, 2), { messages: 5, bytes: 1 }).count).toBe(1);
  });

  test("is over when its first message is, and never without a lifetime", () => {
    const now = (monotonicMs: number) => ({ ...time, monotonicMs });
    expect(isRunOver(runOf(1, 3, 1_000), now(6_000))).toBe(false);
    expect(isRunOver(runOf(1, 3, 1_000), now(6_001))).toBe(true);
    expect(isRunOver(runOf(1, 3), now(1e12))).toBe(false);
  });
});

test("in flight: any acknowledgements, in any ranges, settle each message once", () => {
  const steps = fc.array(
    fc.record({ from: fc.integer({ min: 95, max: 140 }), length: fc.integer({ min: 1, max: 40 }) }),
    { maxLength: 12 },
  );
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 32 }), fc.boolean(), (ranges, messages, alone) => {
      const inFlight = new InFlight();
      const run = runOf(100, 32);
      const single = entriesOf(runOf(132, 4)) as Entry[];
      while (run.next < 32) inFlight.add([takeSlice(run, { messages, bytes: 1e9 })], 1);
      inFlight.add(single, 2);
      const open = new Set(Array.from({ length: 36 }, (_, i) => 100 + i));
      const settled = (seq: number): void => expect(open.delete(seq)).toBe(true);
      for (const { from, length } of ranges) {
        const expected = [...open].filter((seq) => seq >= from && seq < from + length).length;
        const before = open.size;
        if (alone) {
          const entry = inFlight.remove({ epoch: EPOCH, seq: from });
          expect(entry?.seq).toBe(open.has(from) ? from : undefined);
          if (entry) settled(entry.seq);
        } else {
          const range = { epoch: EPOCH, from, to: from + length - 1 };
          inFlight.settle(range, {
            entry: ({ seq }) => settled(seq),
            slice: ({ run: of }, mask) => {
              for (let i = 0; i < 32; i++) if ((mask >>> i) & 1) settled(of.record.firstSeq + i);
            },
          });
          expect(before - open.size).toBe(expected);
        }
        expect(inFlight.size).toBe(open.size);
      }
    }),
  );
});
