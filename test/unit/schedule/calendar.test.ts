/** When cron expressions fire, in any zone and across changes of the clocks. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { cronCalendar } from "../../../agent/schedule/calendar.ts";
import { parseCron } from "../../../agent/schedule/cron.ts";

function fires(expression: string, zone: string, after: string, count: number): string[] {
  const calendar = cronCalendar(expression, zone);
  const out: string[] = [];
  let at = Date.parse(after);
  for (let i = 0; i < count; i++) {
    const next = calendar.next(at);
    if (next === undefined) break;
    out.push(new Date(next).toISOString().replace(".000Z", "Z"));
    at = next;
  }
  return out;
}

test.each([
  ["*/5 * * * * *", ["2026-03-01T00:00:05Z", "2026-03-01T00:00:10Z"]],
  ["30 * * * *", ["2026-03-01T00:30:00Z", "2026-03-01T01:30:00Z"]],
  ["0 0 29 2 *", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]],
  ["15 6 * * mon-fri", ["2026-03-02T06:15:00Z", "2026-03-03T06:15:00Z"]],
  ["0 12 * * 7", ["2026-03-01T12:00:00Z", "2026-03-08T12:00:00Z"]],
  ["0 0 13 * fri", ["2026-03-06T00:00:00Z", "2026-03-13T00:00:00Z", "2026-03-20T00:00:00Z"]],
  ["@monthly", ["2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z"]],
  ["0 0 31 * *", ["2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"]],
  ["10/20 1 1 jan,jul *", ["2026-07-01T01:10:00Z", "2026-07-01T01:30:00Z"]],
])("%s", (expression, expected) => {
  expect(fires(expression, "UTC", "2026-03-01T00:00:00Z", expected.length)).toEqual(expected);
});

test("at the start of daylight saving a skipped time runs an hour later, once", () => {
  // Berlin, 29 March 2026: 02:00 becomes 03:00 at 01:00 UTC.
  expect(fires("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3)).toEqual([
    "2026-03-28T01:30:00Z",
    "2026-03-29T01:30:00Z",
    "2026-03-30T00:30:00Z",
  ]);
  expect(fires("0 2,3 * * *", "Europe/Berlin", "2026-03-28T22:00:00Z", 2)).toEqual([
    "2026-03-29T01:00:00Z",
    "2026-03-30T00:00:00Z",
  ]);
});

test("at its end an hour that comes twice runs a job at fixed hours once", () => {
  // Berlin, 25 October 2026: 03:00 becomes 02:00 at 01:00 UTC.
  expect(fires("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2)).toEqual([
    "2026-10-25T00:30:00Z",
    "2026-10-26T01:30:00Z",
  ]);
  expect(fires("*/20 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 4).slice(2)).toEqual([
    "2026-10-25T00:40:00Z",
    "2026-10-26T01:00:00Z",
  ]);
});

test("a job of every hour keeps its rhythm through both", () => {
  const steps = (after: string) => {
    const at = fires("*/30 * * * *", "Europe/Berlin", after, 12).map((text) => Date.parse(text));
    return new Set(at.slice(1).map((ms, i) => ms - (at[i] ?? 0)));
  };
  expect(steps("2026-03-28T23:00:00Z")).toEqual(new Set([1_800_000]));
  expect(steps("2026-10-24T22:00:00Z")).toEqual(new Set([1_800_000]));
  const half = fires("15 * * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", 1);
  expect(half).toEqual(["2026-01-01T00:45:00Z"]);
});

test.each([
  ["", "5 fields"],
  ["* * * *", "5 fields"],
  ["* * * * * * *", "5 fields"],
  ["60 * * * *", '"60" is no minute; expected 0 to 59'],
  ["* 24 * * *", "hour"],
  ["* * 0 * *", "day of month"],
  ["* * * 13 *", "month"],
  ["* * * foo *", "jan to dec"],
  ["* * * * 8", "day of week"],
  ["*/0 * * * *", "minute"],
  ["1-2-3 * * * *", "minute"],
  ["5-1 * * * *", "minute"],
  ["1,,2 * * * *", "minute"],
  ["*/5/5 * * * *", "minute"],
  ["-1 * * * *", "minute"],
  ["0 0 30 2 *", "never comes"],
  ["0 0 31 4,6,9,11 *", "never comes"],
  [`${"1,".repeat(200)}1 * * * *`, "too long"],
])("refuses %j", (expression, named) => {
  expect(() => parseCron(expression)).toThrow(
    expect.objectContaining({ code: "config_invalid", message: expect.stringContaining(named) }),
  );
});

test.each(["Mars/Olympus", "", "+02:00"])("refuses the zone %j", (zone) => {
  expect(() => cronCalendar("@daily", zone)).toThrow(
    expect.objectContaining({ code: "config_invalid" }),
  );
});

test("the epoch and the time before it are times like any other", () => {
  expect(cronCalendar("@hourly", "UTC").next(0)).toBe(3_600_000);
  expect(cronCalendar("@daily", "UTC").next(0)).toBe(86_400_000);
  expect(cronCalendar("@hourly", "UTC").next(-1_800_500)).toBe(0);
});

test("outside of all years there is no next time", () => {
  const calendar = cronCalendar("@daily", "UTC");
  for (const at of [-1e15, 8.64e15, Number.POSITIVE_INFINITY]) {
    expect(calendar.next(at)).toBeUndefined();
  }
});

test("garbage is refused and never loops", () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(..."0123456789*/,-@ abfn") }), (text) => {
      try {
        parseCron(text);
      } catch (error) {
        expect(error).toMatchObject({ code: "config_invalid" });
      }
    }),
    { numRuns: 500 },
  );
});

test("the next time lies ahead, fits the fields, and nothing between fits", () => {
  const minute = fc.integer({ min: 0, max: 59 });
  const hour = fc.integer({ min: 0, max: 23 });
  const zone = fc.constantFrom("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe");
  const at = fc.integer({ min: Date.UTC(1971, 0, 1), max: Date.UTC(2080, 0, 1) });
  fc.assert(
    fc.property(minute, hour, zone, at, (m, h, timeZone, after) => {
      const next = cronCalendar(`${m} ${h} * * *`, timeZone).next(after);
      if (next === undefined) throw new Error("there is always a next day");
      expect(next).toBeGreaterThan(after);
      // A day, and at most an hour more or less where the clocks change.
      expect(next - after).toBeLessThanOrEqual(25 * 3_600_000);
      const shown = new Intl.DateTimeFormat("en-GB", {
        timeZone,
        hour: "2-digit",
        minute: "2-digit",
      }).format(next);
      const wanted = `${String(h).padStart(2, "0")}:${String(m).padStart(2, "0")}`;
      const later = cronCalendar(`${m} ${h} * * *`, timeZone).next(next);
      // Skipped times show later; then the day after shows the time itself again.
      if (shown !== wanted) expect((later ?? 0) - next).toBeLessThan(24 * 3_600_000);
    }),
    { numRuns: 300 },
  );
});
