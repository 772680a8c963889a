import { HoldfastError } from "../core/errors.ts";

/** What each field allows, ascending; undefined where it allows everything. */
export interface CronFields {
  readonly second: readonly number[] | undefined;
  readonly minute: readonly number[] | undefined;
  readonly hour: readonly number[] | undefined;
  readonly dayOfMonth: readonly number[] | undefined;
  /** 1 to 12 */
  readonly month: readonly number[] | undefined;
  /** 0 to 6, Sunday is 0 */
  readonly dayOfWeek: readonly number[] | undefined;
}

interface FieldRule {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  readonly words?: readonly string[];
}

const months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const weekdays = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const second: FieldRule = { name: "second", min: 0, max: 59 };
const minute: FieldRule = { name: "minute", min: 0, max: 59 };
const hour: FieldRule = { name: "hour", min: 0, max: 23 };
const dayOfMonth: FieldRule = { name: "day of month", min: 1, max: 31 };
const month: FieldRule = { name: "month", min: 1, max: 12, words: months };
const dayOfWeek: FieldRule = { name: "day of week", min: 0, max: 7, words: weekdays };

const shorthands: ReadonlyMap<string, string> = new Map([
  ["@hourly", "0 * * * *"],
  ["@daily", "0 0 * * *"],
  ["@midnight", "0 0 * * *"],
  ["@weekly", "0 0 * * 0"],
  ["@monthly", "0 0 1 * *"],
  ["@yearly", "0 0 1 1 *"],
  ["@annually", "0 0 1 1 *"],
]);

const longestExpression = 256;
/** February with its leap day, since one comes round. */
const daysIn = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/**
 * Five fields, or six with the second first: `*`, lists, ranges, steps, names of months and
 * weekdays, 0 and 7 for Sunday, `@daily` and its like. As in crontab(5), a day fits when either
 * the day of month or the day of week does, if both are restricted.
 * Throws `config_invalid` naming the field, also for days that never come.
 */
export function parseCron(expression: string): CronFields {
  const text = expression.trim().toLowerCase();
  if (text.length > longestExpression) throw wrong(expression, "it is too long");
  const parts = (shorthands.get(text) ?? text).split(/\s+/);
  if (parts.length === 5) parts.unshift("0");
  if (parts.length !== 6) throw wrong(expression, "it has 5 fields, or 6 with seconds");
  const field = (at: number, rule: FieldRule): readonly number[] | undefined =>
    parseField(parts[at] as string, rule, expression);
  const fields: CronFields = {
    second: field(0, second),
    minute: field(1, minute),
    hour: field(2, hour),
    dayOfMonth: field(3, dayOfMonth),
    month: field(4, month),
    dayOfWeek: sundays(field(5, dayOfWeek)),
  };
  if (!dayExists(fields)) throw wrong(expression, "the day of month never comes in that month");
  return fields;
}

function parseField(
  text: string,
  rule: FieldRule,
  expression: string,
): readonly number[] | undefined {
  const allowed = new Set<number>();
  for (const item of text.split(",")) {
    const [span, step, ...rest] = item.split("/");
    if (span === undefined || rest.length > 0) throw wrongField(expression, rule, item);
    const stride = step === undefined ? 1 : Number(step);
    if (step !== undefined && (!/^\d{1,2}$/.test(step) || stride < 1)) {
      throw wrongField(expression, rule, item);
    }
    const [from, to] = parseSpan(span, step !== undefined, rule) ?? [];
    if (from === undefined || to === undefined) throw wrongField(expression, rule, item);
    for (let value = from; value <= to; value += stride) allowed.add(value);
  }
  const all = rule.max - rule.min + 1;
  return allowed.size === all ? undefined : [...allowed].sort((a, b) => a - b);
}

/** First and last value; `5/10` runs from 5 to the end, as `5-59/10` would. */
function parseSpan(
  span: string,
  stepped: boolean,
  rule: FieldRule,
): readonly [number, number] | undefined {
  if (span === "*") return [rule.min, rule.max];
  const [first, last, ...rest] = span.split("-");
  if (rest.length > 0) return undefined;
  const from = parseValue(first, rule);
  const to = last === undefined ? (stepped ? rule.max : from) : parseValue(last, rule);
  if (from === undefined || to === undefined || from > to) return undefined;
  return [from, to];
}

function parseValue(text: string | undefined, rule: FieldRule): number | undefined {
  if (text === undefined) return undefined;
  const word = rule.words?.indexOf(text) ?? -1;
  if (word >= 0) return word + rule.min;
  if (!/^\d{1,2}$/.test(text)) return undefined;
  const value = Number(text);
  return value >= rule.min && value <= rule.max ? value : undefined;
}

function sundays(days: readonly number[] | undefined): readonly number[] | undefined {
  if (!days) return undefined;
  const week = new Set(days.map((day) => day % 7));
  return week.size === 7 ? undefined : [...week].sort((a, b) => a - b);
}

function dayExists(fields: CronFields): boolean {
  if (!fields.dayOfMonth || fields.dayOfWeek) return true;
  const first = fields.dayOfMonth[0] ?? 32;
  const inMonths = fields.month ?? daysIn.map((_, i) => i + 1);
  return inMonths.some((number) => first <= (daysIn[number - 1] ?? 0));
}

function wrongField(expression: string, rule: FieldRule, item: string): HoldfastError {
  const words = rule.words ? ` or ${rule.words[0]} to ${rule.words.at(-1)}` : "";
  return wrong(
    expression,
    `"${item}" is no ${rule.name}; expected ${rule.min} to ${rule.max}${words}, *, a range or a step`,
  );
}

function wrong(expression: string, why: string): HoldfastError {
  const shown = expression.slice(0, longestExpression);
  return new HoldfastError("config_invalid", `The schedule "${shown}" is wrong: ${why}.`);
}
