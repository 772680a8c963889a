import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Result, Tally } from "../../../build/demo/tally.ts";

const nothing: Result = {
  accepted: 0,
  retried: 0,
  delivered: 0,
  lost: 0,
  duplicated: 0,
  disordered: 0,
  unasked: 0,
};

describe("the accounts of the demo", () => {
  test("what was accepted and did not arrive is lost", () => {
    const tally = new Tally();
    for (const number of [1, 2, 3]) tally.accept(number, { tries: 1 });
    tally.arrive(1);
    tally.arrive(3);
    expect(tally.result()).toEqual({ ...nothing, accepted: 3, delivered: 2, lost: 1 });
  });

  test("each arrival after the first of a message is a duplicate, and hides no loss", () => {
    const tally = new Tally();
    for (const number of [1, 2]) tally.accept(number, { tries: 1 });
    for (const number of [1, 1, 1]) tally.arrive(number);
    expect(tally.result()).toMatchObject({ delivered: 1, lost: 1, duplicated: 2 });
  });

  test("a message may arrive before its acceptance is known", () => {
    const tally = new Tally();
    tally.arrive(1);
    expect(tally.result()).toMatchObject({ accepted: 0, delivered: 0, unasked: 1 });
    tally.accept(1, { tries: 2 });
    expect(tally.result()).toEqual({ ...nothing, accepted: 1, retried: 1, delivered: 1 });
  });

  test("only first arrivals count for the order", () => {
    const tally = new Tally();
    for (const number of [1, 2, 1, 4, 3, 2, 5]) tally.arrive(number);
    expect(tally.result()).toMatchObject({ disordered: 1, duplicated: 2 });
  });

  test("a message that is accepted twice is an error of the count itself", () => {
    const tally = new Tally();
    tally.accept(1, { tries: 1 });
    expect(() => tally.accept(1, { tries: 1 })).toThrow("message 1 was counted twice");
  });

  test("every acceptance is delivered or lost, every arrival first or again", () => {
    const numbers = fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 100 });
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 40 })), numbers, (accepted, arrived) => {
        const tally = new Tally();
        for (const number of accepted) tally.accept(number, { tries: 1 });
        for (const number of arrived) tally.arrive(number);
        const result = tally.result();
        const missing = accepted.filter((number) => !arrived.includes(number));
        expect(result.lost).toBe(missing.length);
        expect(result.accepted).toBe(result.delivered + result.lost);
        expect(arrived.length).toBe(result.delivered + result.unasked + result.duplicated);
      }),
    );
  });
});
