import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AssertionFailure } from "../../../agent/core/assert.ts";
import { isHoldfastError } from "../../../agent/core/errors.ts";
import { decodeRecord, decodeRecordSummary, encodeRecord } from "../../../agent/outbox/record.ts";

const epoch = "01JD0000000000000000000000";
const u48 = fc.integer({ min: 1, max: 2 ** 48 - 1 });
const shortText = fc
  .string({ unit: "grapheme", maxLength: 255 })
  .filter((text) => Buffer.byteLength(text) <= 255);
const longText = fc.string({ unit: "grapheme-ascii", minLength: 255, maxLength: 255 });
const text = fc.oneof({ weight: 4, arbitrary: shortText }, { weight: 1, arbitrary: longText });
const ms = fc.double({ noNaN: true });

const time = fc.record({ bootId: text, monotonicMs: ms, wallMs: ms, trusted: fc.boolean() });
const message = fc.record({
  seq: u48,
  offsetMs: fc.integer({ min: 0, max: 0xffff_ffff }),
  ttlMs: ms,
  key: text,
  producerId: text,
  packet: fc.uint8Array({ maxLength: 300 }),
});
const messages = fc.array(message, { minLength: 1, maxLength: 32 });

const sample = encodeRecord(
  77,
  epoch,
  { bootId: "boot-1", monotonicMs: 1, wallMs: 2, trusted: true },
  [1, 2, 3].map((seq) => ({
    seq,
    offsetMs: seq,
    ttlMs: 0,
    key: "k",
    producerId: "",
    packet: new Uint8Array(seq * 5),
  })),
);

/** Decodes; undefined for damage. Any other error is a failure of the test. */
function decodeOrDamage(bytes: Uint8Array) {
  try {
    return { head: decodeRecordSummary(bytes), record: decodeRecord(bytes) };
  } catch (error) {
    expect(isHoldfastError(error, "store_damaged"), String(error)).toBe(true);
    return undefined;
  }
}

test("what is encoded comes back", () => {
  fc.assert(
    fc.property(u48, time, messages, (number, at, list) => {
      const bytes = encodeRecord(number, epoch, at, list);
      const packetBytes = list.reduce((sum, { packet }) => sum + packet.length, 0);
      const head = { number, epoch, time: at, count: list.length, packetBytes };
      const producers = list
        .filter(({ producerId }) => producerId !== "")
        .map(({ seq, producerId }) => ({ seq, producerId }));
      const ends = { firstSeq: list[0]?.seq, lastSeq: list.at(-1)?.seq };
      expect(decodeRecordSummary(bytes)).toEqual({ ...head, ...ends, producers });
      const decoded = decodeRecord(bytes);
      expect({
        ...decoded,
        messages: decoded.messages.map((m) => ({ ...m, packet: new Uint8Array(m.packet) })),
      }).toEqual({ ...head, messages: list });
    }),
  );
});

describe("damage", () => {
  test("every cut is noticed", () => {
    for (let length = 0; length < sample.length; length++) {
      expect(decodeOrDamage(sample.subarray(0, length)), `cut at ${length}`).toBeUndefined();
    }
    expect(decodeOrDamage(Buffer.concat([sample, Buffer.of(0)]))).toBeUndefined();
    expect(decodeOrDamage(sample)).toBeDefined();
  });

  test("every single flipped bit is noticed or leaves a record that is one", () => {
    for (let bit = 0; bit < sample.length * 8; bit++) {
      const bytes = Buffer.from(sample);
      bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
      expectSound(bytes);
    }
  });

  test("no bytes at all cause another error than damage", () => {
    const noise = fc.uint8Array({ maxLength: 400 });
    const patches = fc.array(fc.tuple(fc.nat(sample.length - 1), fc.nat(255)), { maxLength: 8 });
    fc.assert(
      fc.property(fc.boolean(), noise, patches, (fresh, bytes, changes) => {
        const damaged = fresh ? Buffer.from(bytes) : Buffer.from(sample);
        for (const [at, value] of changes) damaged[at] = value;
        if (fresh && damaged.length > 0) damaged[0] = 1; // Past the version, where it gets hard.
        expectSound(damaged);
      }),
      { numRuns: 2_000 },
    );
  });

  /** The seal tells changed content; the form alone must keep the arithmetic of masks sound. */
  function expectSound(bytes: Uint8Array): void {
    const found = decodeOrDamage(bytes);
    if (!found) return;
    const { head, record } = found;
    expect(head.count).toBeGreaterThanOrEqual(1);
    expect(head.count).toBeLessThanOrEqual(32);
    expect(record.messages.length).toBe(head.count);
    const packetBytes = record.messages.reduce((sum, { packet }) => sum + packet.length, 0);
    expect(head.packetBytes).toBe(packetBytes);
  }
});

test("what does not fit the format is never written", () => {
  const at = { bootId: "b", monotonicMs: 0, wallMs: 0, trusted: false };
  const one = {
    seq: 1,
    offsetMs: 0,
    ttlMs: 0,
    key: "",
    producerId: "",
    packet: new Uint8Array(1),
  };
  expect(() => encodeRecord(1, epoch, at, [])).toThrow(AssertionFailure);
  expect(() => encodeRecord(1, epoch, at, new Array(33).fill(one))).toThrow(AssertionFailure);
  expect(() => encodeRecord(1, "short", at, [one])).toThrow(AssertionFailure);
  const long = { ...one, key: "x".repeat(256) };
  expect(() => encodeRecord(1, epoch, at, [long])).toThrow(AssertionFailure);
});
