/** The report is well-formed and under 2 KB, whatever it is made of. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { buildReport, type ReportFacts } from "../../../agent/health/report.ts";
import { violations } from "./json-schema.ts";

const schema = JSON.parse(
  readFileSync(new URL("../../../agent/health/report.schema.json", import.meta.url), "utf8"),
);

const lane = { messages: 3, bytes: 900, oldestAgeMs: 1_000, dropped: { full: 2, ttl: 1 } };
const idle = { messages: 0, bytes: 0, oldestAgeMs: 0, dropped: {} };

const usual: ReportFacts = {
  at: 1_767_225_600_000,
  nonce: "q0fRkN5mX2bJ7c8d",
  clock: { trusted: true, source: "kernel", offsetMs: 3 },
  agent: { version: "0.1.0", uptimeS: 61, bootId: "b1", restarts: 2, lastExit: "signal 9" },
  system: {
    cpu: { loadPercent: 12.345, cores: 4 },
    mem: { totalBytes: 8e9, availableBytes: 5e9 },
    disk: { totalBytes: 3e10, availableBytes: 1e10 },
    tempC: 48.27,
  },
  connection: { since: 1, attempts: 7, lastError: { code: "takeover", message: "Another one." } },
  outbox: { lanes: { telemetry: lane, reply: idle, alarm: idle, event: idle, bulk: idle } },
  commands: { queued: 1, running: 1, finished: 40, rejected: 2 },
  plugins: [{ name: "system", version: "1.0.0", state: "running", restarts: 0 }],
  alarms: [{ alarm: "store.full", severity: "critical", cause: "x", at: 5 }],
  credentials: { expiresAt: null },
};

function sizeOf(report: unknown): number {
  return Buffer.byteLength(JSON.stringify(report));
}

test("the usual report says it all", () => {
  const report = buildReport(usual);
  expect(violations(schema, report)).toEqual([]);
  expect(report).toEqual({
    ...usual,
    v: 1,
    system: { ...usual.system, cpu: { loadPercent: 12.3, cores: 4 }, tempC: 48.3 },
    outbox: {
      lanes: {
        telemetry: { ...lane, dropped: 3 },
        ...Object.fromEntries(
          ["reply", "alarm", "event", "bulk"].map((name) => [name, { ...idle, dropped: 0 }]),
        ),
      },
    },
    alarms: [{ alarm: "store.full", severity: "critical", at: 5 }],
  });
});

test("parts that could not say are null, and it is still a report", () => {
  const report = buildReport({
    ...usual,
    clock: null,
    agent: null,
    system: null,
    connection: null,
    outbox: null,
    commands: null,
    plugins: null,
    alarms: [],
    credentials: null,
  });
  expect(violations(schema, report)).toEqual([]);
  expect(report.trimmed).toBeUndefined();
});

test("what is too large is cut in order, the worst alarms stay longest", () => {
  const many = (count: number, name: string) => Array.from({ length: count }, (_, i) => name + i);
  const sizes: string[][] = [];
  for (const count of [1, 8, 20, 200]) {
    const report = buildReport({
      ...usual,
      outbox: { lanes: Object.fromEntries(many(count, "lane-").map((name) => [name, lane])) },
      plugins: many(count, "plugin-").map((name) => ({
        name,
        version: "1.0.0",
        state: "failed",
        restarts: 3,
      })),
      alarms: [
        ...many(count, "note-").map((alarm) => ({
          alarm,
          severity: "info" as const,
          cause: "x",
          at: 1,
        })),
        { alarm: "disk", severity: "critical", cause: "x", at: 2 },
      ],
    });
    expect(sizeOf(report)).toBeLessThan(2_048);
    expect(violations(schema, report)).toEqual([]);
    expect(report.alarms?.[0]?.alarm).toBe("disk");
    sizes.push([...(report.trimmed ?? [])]);
  }
  expect(sizes[0]).toEqual([]);
  const order = ["outbox.idle", "plugins.running", "connection.message", "alarms.rest"];
  expect(sizes[2]?.slice(0, 4)).toEqual(order);
  expect(sizes[3]).toEqual([...order, "plugins", "outbox.lanes"]);
});

test("lanes that were summed up say so", () => {
  const lanes = Object.fromEntries(Array.from({ length: 32 }, (_, i) => [`lane-${i}`, lane]));
  const report = buildReport({ ...usual, outbox: { lanes } });
  expect(report.outbox?.lanes).toEqual({
    "*": { messages: 96, bytes: 28_800, oldestAgeMs: 1_000, dropped: 96 },
  });
});

const text = fc.string({ unit: "binary", maxLength: 400 });
const number = fc.oneof(fc.double(), fc.integer(), fc.constant(Number.NaN));
const orNull = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: null });
const severity = fc.constantFrom("info" as const, "warning" as const, "critical" as const);
const bytes = orNull(fc.record({ totalBytes: number, availableBytes: number }));
const hostile: fc.Arbitrary<ReportFacts> = fc.record({
  at: number,
  nonce: text,
  clock: orNull(fc.record({ trusted: fc.boolean(), source: text, offsetMs: orNull(number) })),
  agent: orNull(
    fc.record({
      version: text,
      uptimeS: number,
      bootId: text,
      restarts: number,
      lastExit: orNull(text),
    }),
  ),
  system: orNull(
    fc.record({
      cpu: orNull(fc.record({ loadPercent: number, cores: number })),
      mem: bytes,
      disk: bytes,
      tempC: orNull(number),
    }),
  ),
  connection: orNull(
    fc.record({
      since: number,
      attempts: number,
      lastError: orNull(fc.record({ code: text, message: text })),
    }),
  ),
  outbox: orNull(
    fc.record({
      lanes: fc.dictionary(
        text,
        fc.record({
          messages: number,
          bytes: number,
          oldestAgeMs: number,
          dropped: fc.dictionary(text, number, { maxKeys: 3 }),
        }),
        { maxKeys: 40 },
      ),
    }),
  ),
  commands: orNull(
    fc.record({ queued: number, running: number, finished: number, rejected: number }),
  ),
  plugins: orNull(
    fc.array(fc.record({ name: text, version: text, state: text, restarts: number }), {
      maxLength: 50,
    }),
  ),
  alarms: fc.array(fc.record({ alarm: text, severity, cause: text, at: number }), {
    maxLength: 50,
  }),
  credentials: orNull(fc.record({ expiresAt: orNull(number) })),
});

test("with any facts it fits the schema and 2 KB", () => {
  fc.assert(
    fc.property(hostile, (facts) => {
      const report = buildReport(facts);
      expect(sizeOf(report)).toBeLessThan(2_048);
      expect(violations(schema, JSON.parse(JSON.stringify(report)))).toEqual([]);
    }),
    { numRuns: 300 },
  );
});

test("with all facts as long as they can be it fits", () => {
  const long = "\u0001".repeat(500);
  const big = Number.MIN_SAFE_INTEGER;
  const report = buildReport({
    at: big,
    nonce: long,
    clock: { trusted: false, source: long, offsetMs: big },
    agent: { version: long, uptimeS: big, bootId: long, restarts: big, lastExit: long },
    system: {
      cpu: { loadPercent: -1e300, cores: big },
      mem: { totalBytes: big, availableBytes: big },
      disk: { totalBytes: big, availableBytes: big },
      tempC: -1e300,
    },
    connection: { since: big, attempts: big, lastError: { code: long, message: long } },
    outbox: {
      lanes: Object.fromEntries(Array.from({ length: 99 }, (_, i) => [`${i}${long}`, lane])),
    },
    commands: { queued: big, running: big, finished: big, rejected: big },
    plugins: new Array(99).fill({ name: long, version: long, state: long, restarts: big }),
    alarms: new Array(99).fill({ alarm: long, severity: "critical", cause: long, at: big }),
    credentials: { expiresAt: big },
  });
  expect(sizeOf(report)).toBeLessThan(2_048);
  expect(violations(schema, report)).toEqual([]);
});
