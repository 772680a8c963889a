import { describe, expect, test } from "vitest";
import { AssertionFailure, assert, unreachable } from "../../../agent/core/assert.ts";
import {
  describeError,
  type ErrorCode,
  errorTable,
  HoldfastError,
  isHoldfastError,
} from "../../../agent/core/errors.ts";

const codes = Object.keys(errorTable) as ErrorCode[];

describe("errors", () => {
  test.each(codes)("%s has a stable form and a sentence", (code) => {
    const error = new HoldfastError(code);
    expect(code).toMatch(/^[a-z]+(_[a-z]+)*$/);
    expect(error.message).toMatch(/^[a-z].*[^.]\.$/i);
    expect(error.retryable).toBe(errorTable[code].retryable);
    expect(error.details).toEqual({});
    expect(isHoldfastError(error, code)).toBe(true);
  });

  test("a throw site may say more than the table", () => {
    const cause = new Error("ENOSPC");
    const error = new HoldfastError("lane_full", "It is full.", {
      details: { lane: "alarm" },
      cause,
      retryable: false,
    });
    expect(error).toMatchObject({ message: "It is full.", details: { lane: "alarm" }, cause });
    expect(error.retryable).toBe(false);
    expect(isHoldfastError(error)).toBe(true);
    expect(isHoldfastError(error, "busy")).toBe(false);
    expect(isHoldfastError(Object.assign(new Error("x"), { code: "busy" }))).toBe(false);
  });

  test("a description has the causes behind it, each with its code", () => {
    const disk = Object.assign(new Error("no space left"), { code: "ENOSPC" });
    const error = new HoldfastError("store_not_writable", "No.", { cause: disk });
    expect(describeError(error)).toBe("store_not_writable: No. <- ENOSPC: no space left");
    expect(describeError("a string")).toBe("a string");
    expect(describeError(undefined)).toBe("");
  });

  test("a circle of causes ends", () => {
    const a = new Error("a");
    const b = new Error("b", { cause: a });
    a.cause = b;
    expect(describeError(a)).toBe("a <- b <- a <- b <- a");
  });
});

test("a broken assumption is no operating error", () => {
  assert(true, "fine");
  expect(() => assert(false, "water is dry")).toThrow(AssertionFailure);
  expect(() => unreachable("red" as never)).toThrow('unreachable: "red"');
  expect(isHoldfastError(new AssertionFailure("x"))).toBe(false);
});
