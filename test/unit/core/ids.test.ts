import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { messageId, parseMessageId, toRanges } from "../../../agent/core/message.ts";
import { ulid } from "../../../agent/core/random.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { SeededRandom } from "../../support/seeded-random.ts";

const fixed = (bytes: Uint8Array) => ({ float: () => 0, bytes: () => bytes });

describe("ulid", () => {
  test("is the 128 bits of time and randomness in Crockford's base 32", () => {
    const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    const times = fc.integer({ min: 0, max: 2 ** 48 - 1 });
    fc.assert(
      fc.property(times, fc.uint8Array({ minLength: 10, maxLength: 10 }), (time, bytes) => {
        const id = ulid(time, fixed(bytes));
        expect(id).toHaveLength(26);
        let value = 0n;
        for (const char of id) value = value * 32n + BigInt(alphabet.indexOf(char));
        const random = BigInt(`0x${Buffer.from(bytes).toString("hex")}`);
        expect(value).toBe((BigInt(time) << 80n) | random);
      }),
    );
  });

  test("sorts by time, and any clock gives a well-formed one", () => {
    const random = new SeededRandom(1);
    const ids = [0, 1, 1_000, 1e12, 1e12 + 1, 2 ** 48 - 1].map((ms) => ulid(ms, random));
    expect([...ids].sort()).toEqual(ids);
    for (const ms of [-1, 2 ** 48, 1.5, 1e300]) {
      expect(parseMessageId(`${ulid(ms, random)}-1`)).toBeDefined();
    }
  });

  test("10,000 at one moment are all different", () => {
    const random = new SystemRandom();
    expect(new Set(Array.from({ length: 10_000 }, () => ulid(0, random))).size).toBe(10_000);
  });
});

describe("message ids", () => {
  const epoch = ulid(1e12, new SeededRandom(2));

  test("what messageId makes, parseMessageId takes apart", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), (seq) => {
        expect(parseMessageId(messageId(epoch, seq))).toEqual({ epoch, seq });
      }),
    );
  });

  test.each([
    "",
    epoch,
    `${epoch}-`,
    `${epoch}-0`,
    `${epoch}-01`,
    `${epoch}--1`,
    `${epoch}-1.5`,
    `${epoch}-1 `,
    ` ${epoch}-1`,
    `${epoch}-9007199254740993`, // Would name another message than it says.
    `${epoch}-99999999999999999`,
    `${epoch.slice(1)}-1`,
    `${epoch.toLowerCase()}-1`,
    `${epoch.slice(0, 25)}U-1`, // Crockford's alphabet has no U.
  ])("%j is none", (text) => {
    expect(parseMessageId(text)).toBeUndefined();
  });
});

test("ranges name the same ids in the same order, neighbours joined", () => {
  const ids = fc.array(
    fc.record({ epoch: fc.constantFrom("A", "B"), seq: fc.integer({ min: 1, max: 6 }) }),
  );
  fc.assert(
    fc.property(ids, (list) => {
      const ranges = toRanges(list);
      const again = ranges.flatMap(({ epoch, from, to }) =>
        Array.from({ length: to - from + 1 }, (_, i) => ({ epoch, seq: from + i })),
      );
      expect(again).toEqual(list);
      ranges.forEach((range, i) => {
        const next = ranges[i + 1];
        expect(next?.epoch === range.epoch && next.from === range.to + 1).toBe(false);
      });
    }),
  );
});
