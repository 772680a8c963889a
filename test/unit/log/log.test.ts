import fc from "fast-check";
import { expect, test } from "vitest";
import { Secret } from "../../../agent/config/config.ts";
import { HoldfastError } from "../../../agent/core/errors.ts";
import type { LogFields } from "../../../agent/core/log.ts";
import { Log, type LogOptions, type LogStream } from "../../../agent/log/log.ts";
import { FakeClock } from "../../support/fake-clock.ts";

/** A stream that is full when told so. */
class FakeStream implements LogStream {
  text = "";
  full = false;
  readonly #listeners = new Map<string, (error: Error) => void>();

  write(text: string): boolean {
    this.text += text;
    return !this.full;
  }

  on(event: string, listener: (error: Error) => void): void {
    this.#listeners.set(event, listener);
  }

  drain(): void {
    this.full = false;
    this.#listeners.get("drain")?.(new Error("unused"));
  }

  fail(): void {
    this.#listeners.get("error")?.(new Error("EPIPE"));
  }

  get lines(): Record<string, unknown>[] {
    return this.text
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line));
  }
}

function start(options: Partial<LogOptions> = {}) {
  const stream = new FakeStream();
  const clock = new FakeClock({ wallMs: Date.UTC(2026, 10, 23, 12) });
  return { stream, clock, log: new Log({ level: "info", ...options }, { stream, clock }) };
}

const untyped = (fields: Record<string, unknown>): LogFields => fields as LogFields;

test("a line is an object with its time, level, event, component and fields", () => {
  const { stream, log } = start();
  log
    .child("session")
    .child("auth")
    .warn("credentials refused", { code: 5, server: "a", x: undefined });
  expect(stream.text).toBe(
    '{"time":"2026-11-23T12:00:00.000Z","level":"warn","event":"credentials refused","component":"session.auth","code":5,"server":"a"}\n',
  );
});

test("lines under the level are not written, and children follow a change of it", () => {
  const { stream, log } = start({ level: "warn" });
  const child = log.child("a");
  for (const level of ["debug", "info", "warn", "error"] as const) child[level](level);
  log.setLevel("debug");
  for (const level of ["debug", "info", "warn", "error"] as const) child[level](`${level} now`);
  expect(stream.lines.map(({ event }) => event)).toEqual([
    "warn",
    "error",
    "debug now",
    "info now",
    "warn now",
    "error now",
  ]);
});

test("only plain values are printed: errors by their chain, secrets and objects not at all", () => {
  const { stream, log } = start();
  const secret = new Secret("s3cr3t");
  const cause = new Error("socket gone");
  const fields = {
    secret,
    nested: { secret, text: "s3cr3t" },
    list: ["a", secret, ["s3cr3t"]],
    error: new HoldfastError("connection_lost", "It ended.", { cause }),
    big: 1n,
    run: () => "s3cr3t",
    nan: Number.NaN,
    level: "not the level",
  };
  log.info("odd", untyped(fields));
  expect(stream.text).not.toContain("s3cr3t");
  expect(stream.lines[0]).toMatchObject({
    ...{ secret: "[object]", nested: "[object]", list: ["a", "[object]", "[object]"] },
    ...{ error: "connection_lost: It ended. <- socket gone", big: "[bigint]", run: "[function]" },
    ...{ nan: "NaN", level: "info", level_: "not the level" },
  });
});

test("any fields make one bounded line of JSON", () => {
  const value = fc.oneof(fc.string({ unit: "binary", maxLength: 5_000 }), fc.anything());
  fc.assert(
    fc.property(fc.string(), fc.dictionary(fc.string(), value), (event, fields) => {
      const { stream, log } = start();
      log.info(event, untyped(fields));
      expect(stream.lines).toHaveLength(1);
      expect(stream.text.length).toBeLessThanOrEqual(16_385);
    }),
  );
  const { stream, log } = start();
  log.info(
    "x".repeat(1e6),
    untyped(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`k${i}`, "y".repeat(1e5)]))),
  );
  expect(stream.text.length).toBeLessThan(16_385);
  expect(stream.lines[0]).toMatchObject({ level: "info", truncated: true });
});

test("while the stream is full lines wait up to the bound, the rest is counted and told", () => {
  const { stream, log } = start({ maxBufferedChars: 1_000 });
  stream.full = true;
  log.info("fills");
  const before = stream.text;
  for (let i = 0; i < 1_000; i++) log.info("waits", { i });
  expect(stream.text).toBe(before);
  expect(log.dropped).toBeGreaterThan(900);
  stream.drain();
  const waited = stream.lines.filter(({ event }) => event === "waits");
  expect(waited.map(({ i }) => i)).toEqual(waited.map((_, i) => i));
  expect(waited.length + log.dropped).toBe(1_000);
  expect(stream.text.length).toBeLessThan(before.length + 1_300);
  expect(stream.lines.at(-1)).toMatchObject({
    level: "warn",
    event: "lines dropped",
    count: log.dropped,
  });
  log.info("after");
  stream.drain();
  expect(stream.lines.at(-1)).toMatchObject({ event: "after" });
});

test("a stream that fills again while it drains loses nothing more", () => {
  const { stream, log } = start();
  stream.full = true;
  log.info("one");
  log.info("two");
  const write = stream.write.bind(stream);
  stream.write = (text) => write(text) && false;
  stream.drain();
  log.info("three");
  expect(stream.lines.map(({ event }) => event)).toEqual(["one", "two"]);
  stream.write = write;
  stream.drain();
  expect(stream.lines.map(({ event }) => event)).toEqual(["one", "two", "three"]);
  expect(log.dropped).toBe(0);
});

test("a broken stream ends the log and nothing else", () => {
  const { stream, log } = start();
  stream.full = true;
  log.info("one");
  log.info("two");
  stream.fail();
  log.error("three");
  stream.drain();
  expect(stream.lines).toHaveLength(1);
  expect(log.dropped).toBe(2);
});
