/** What `outbox list`, `quarantine list` and `commands list` share: pages until there are enough items. */
import type { ControlClient } from "../control/control.ts";
import type { JsonObject } from "../core/json.ts";
import { styler, timeText } from "./style.ts";
import type { CliContext } from "./subcommand.ts";
import { flag, integer, option } from "./subcommand.ts";
import { type Column, renderTable } from "./table.ts";

const LARGEST_PAGE = 1_000;

export const limitOption = option({
  value: "N",
  doc: "how many to show at most",
  parse: integer({ min: 1, max: 1_000_000 }),
  default: 50,
});

export const jsonListOption = flag('print {"items": [...], "next": CURSOR or null}');

export const cursorOption = option({
  value: "CURSOR",
  doc: "go on where an earlier list ended",
  parse: (given) => given,
});

interface ListOptions {
  readonly name: "outbox" | "commands" | "quarantine";
  readonly limit: number;
  readonly cursor: string | undefined;
  readonly json: boolean;
  readonly columns: readonly Column<JsonObject>[];
  /** What to say when there is nothing. */
  readonly none: string;
}

export async function printList(
  client: ControlClient,
  options: ListOptions,
  context: CliContext,
): Promise<void> {
  const items: JsonObject[] = [];
  let next: string | null = options.cursor ?? null;
  do {
    const limit = Math.min(LARGEST_PAGE, options.limit - items.length);
    const page = await client.list(
      options.name,
      next === null ? { limit } : { limit, cursor: next },
    );
    items.push(...page.items);
    next = page.next;
  } while (next !== null && items.length < options.limit);
  if (options.json) {
    context.stdout.write(`${JSON.stringify({ items, next })}\n`);
    return;
  }
  context.stdout.write(renderTable(options.columns, items, styler(context)));
  if (items.length === 0) context.stderr.write(`${options.none}\n`);
  else if (next !== null) context.stderr.write(`There are more: --cursor ${next}\n`);
}

/** A member as text; what is not there is a dash. */
export function member(name: string): (item: JsonObject) => string {
  return (item) => {
    const value = item[name];
    if (value === undefined || value === null || value === "") return "-";
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  };
}

export function timeMember(name: string): (item: JsonObject) => string {
  return (item) => {
    const value = item[name];
    return typeof value === "number" ? timeText(value) : "-";
  };
}
