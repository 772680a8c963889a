import type { JsonObject } from "../core/json.ts";
import {
  cursorOption,
  jsonListOption,
  limitOption,
  member,
  printList,
  timeMember,
} from "./listing.ts";
import { configOption, controlClient } from "./sources.ts";
import { type Format, printable, styler, timeText } from "./style.ts";
import { argument, defineGroup, defineSubcommand, exit, flag } from "./subcommand.ts";
import { renderFacts } from "./table.ts";

function statusFormat({ status }: JsonObject): Format {
  if (status === "succeeded") return "green";
  return status === "admitted" || status === "running" ? "yellow" : "red";
}

const list = defineSubcommand({
  name: "list",
  summary: "List the commands in the journal, the newest first.",
  examples: [{ command: "commands list --limit 5", doc: "the last five" }],
  options: {
    config: configOption,
    limit: limitOption,
    cursor: cursorOption,
    json: jsonListOption,
  },
  async run({ options }, context) {
    const columns = [
      { title: "id", cell: member("id") },
      { title: "command", cell: member("command") },
      { title: "from", cell: member("from") },
      { title: "admitted", cell: timeMember("admittedAt") },
      { title: "status", cell: member("status"), format: statusFormat },
    ];
    const none = "No command has come yet.";
    const client = controlClient(options, context);
    await printList(client, { ...options, name: "commands", columns, none }, context);
    return exit.done;
  },
});

const show = defineSubcommand({
  name: "show",
  summary: "Show one command and its reply.",
  examples: [
    { command: "commands show 01JABCDEFGHJKMNPQRSTVWXYZ0", doc: "by the id its sender gave it" },
  ],
  arguments: { id: argument("ID", "the command's id, as `commands list` shows it") },
  options: { config: configOption, json: flag("print one JSON object") },
  async run({ arguments: { id }, options }, context) {
    const found = await controlClient(options, context).command(id);
    if (options.json) context.stdout.write(`${JSON.stringify(found)}\n`);
    else {
      const facts = Object.entries(found).map(
        ([name, value]) => [name, shown(name, value)] as const,
      );
      context.stdout.write(renderFacts(facts, styler(context)));
    }
    return exit.done;
  },
});

/** Times as times, objects as JSON over several lines. */
function shown(name: string, value: unknown): string {
  if (typeof value === "number" && name.endsWith("At")) return timeText(value);
  if (typeof value === "string") return printable(value);
  return JSON.stringify(value, undefined, 2).split("\n").map(printable).join("\n");
}

export const commands = defineGroup({
  name: "commands",
  summary: "Show the commands that this device was sent.",
  help: "Asks the running agent over its local socket. Exit status 3 when no agent answers.",
  subcommands: [list, show],
});
