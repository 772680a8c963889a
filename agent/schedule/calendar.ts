/**
 * When a cron expression fires next, as a pure function of a moment. The one file that imports
 * node-schedule, and of it only `RecurrenceRule.nextInvocationDate`: its jobs arm real timers by
 * the wall clock, which is what a clock jump turns into a hot loop or into silence; the rule's
 * arithmetic takes any base.
 *
 * Daylight saving, as in the better crons: a job at fixed hours whose time is skipped runs as much
 * later as the clock was put forward, and runs once in an hour that comes twice; a job that runs in
 * every hour keeps its rhythm. For fixed hours the rule therefore runs over local time written as
 * if it were UTC, and the result is put back into the zone here.
 */
import { RecurrenceRule } from "node-schedule";
import { HoldfastError } from "../core/errors.ts";
import { type CronFields, parseCron } from "./cron.ts";

export interface Calendar {
  /** The first moment after `afterMs` (both Unix milliseconds); undefined: none that we know of. */
  next(afterMs: number): number | undefined;
}

const secondMs = 1_000;
const dayMs = 86_400_000;
/** Outside these years the clock is wrong, and date arithmetic ends somewhere beyond. */
const earliestMs = Date.UTC(1900, 0, 1);
const latestMs = Date.UTC(9000, 0, 1);
/** Local times of one zone that can all map to moments in the past: at most one repeated hour. */
const mostRepeats = 4_000;

/** Throws `config_invalid` for an expression or a zone that cannot be. */
export function cronCalendar(expression: string, timeZone?: string): Calendar {
  const fields = parseCron(expression);
  const zone = new Zone(timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone);
  const rules = toRules(fields, fields.hour ? "Etc/UTC" : zone.name);
  const nextOf = (afterMs: number): number => {
    // The rule rounds down to seconds itself, and takes a base of 0 for none at all.
    const base = new Date(Math.floor(afterMs) || 1);
    return Math.min(...rules.map((rule) => rule.nextInvocationDate(base).getTime()));
  };
  const next = fields.hour ? (afterMs: number) => nextAtHours(afterMs, zone, nextOf) : nextOf;
  return {
    next: (afterMs) => (afterMs < earliestMs || afterMs > latestMs ? undefined : next(afterMs)),
  };
}

/** `nextOf` works on local time as if it were UTC. */
function nextAtHours(
  afterMs: number,
  zone: Zone,
  nextOf: (localMs: number) => number,
): number | undefined {
  let localMs = afterMs + zone.offsetMs(afterMs);
  for (let i = 0; i < mostRepeats; i++) {
    localMs = nextOf(localMs);
    const moment = zone.toMoment(localMs);
    if (moment > afterMs) return moment; // Else this local time has been before: it comes twice.
  }
  return undefined;
}

/** Two rules where day of month and day of week are both given, because either may fit. */
function toRules(fields: CronFields, timeZone: string): readonly RecurrenceRule[] {
  const { dayOfMonth, dayOfWeek } = fields;
  if (!dayOfMonth || !dayOfWeek) return [toRule(fields, timeZone)];
  return [
    toRule({ ...fields, dayOfWeek: undefined }, timeZone),
    toRule({ ...fields, dayOfMonth: undefined }, timeZone),
  ];
}

function toRule(fields: CronFields, timeZone: string): RecurrenceRule {
  const rule = new RecurrenceRule();
  // A field left at null allows everything, except the second, which stands at 0 then.
  rule.second = [...(fields.second ?? Array.from({ length: 60 }, (_, i) => i))];
  if (fields.minute) rule.minute = [...fields.minute];
  if (fields.hour) rule.hour = [...fields.hour];
  if (fields.dayOfMonth) rule.date = [...fields.dayOfMonth];
  if (fields.month) rule.month = fields.month.map((month) => month - 1);
  if (fields.dayOfWeek) rule.dayOfWeek = [...fields.dayOfWeek];
  rule.tz = timeZone;
  return rule;
}

class Zone {
  readonly name: string;
  readonly #format: Intl.DateTimeFormat;

  constructor(name: string) {
    this.name = name;
    try {
      if (!/^[A-Za-z]/.test(name)) throw new RangeError("an offset is no zone");
      this.#format = new Intl.DateTimeFormat("en-US", {
        timeZone: name,
        hourCycle: "h23",
        year: "numeric",
        month: "numeric",
        day: "numeric",
        hour: "numeric",
        minute: "numeric",
        second: "numeric",
      });
    } catch (cause) {
      const message = `There is no time zone "${name}"; expected a name like Europe/Berlin.`;
      throw new HoldfastError("config_invalid", message, { cause });
    }
  }

  /** What the zone's clocks show, minus UTC. */
  offsetMs(moment: number): number {
    const whole = Math.floor(moment / secondMs) * secondMs;
    const part: Partial<Record<Intl.DateTimeFormatPartTypes, number>> = {};
    for (const { type, value } of this.#format.formatToParts(whole)) part[type] = Number(value);
    const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = part;
    return Date.UTC(year, month - 1, day, hour, minute, second) - whole;
  }

  /**
   * The moment of a local time: the first of two where clocks were put back, and as much later as
   * they were put forward where it is skipped. Both are what the offset of before the change gives.
   */
  toMoment(localMs: number): number {
    const before = localMs - this.offsetMs(localMs - dayMs);
    if (before + this.offsetMs(before) === localMs) return before;
    const after = localMs - this.offsetMs(localMs + dayMs);
    return after + this.offsetMs(after) === localMs ? after : before;
  }
}
