import {
  cursorOption,
  jsonListOption,
  limitOption,
  member,
  printList,
  timeMember,
} from "./listing.ts";
import { configOption, controlClient } from "./sources.ts";
import { renderLanes } from "./status.ts";
import { styler } from "./style.ts";
import { defineGroup, defineSubcommand, exit, flag } from "./subcommand.ts";
import { renderFacts } from "./table.ts";

const list = defineSubcommand({
  name: "list",
  summary: "List the messages that wait, without their payloads.",
  examples: [{ command: "outbox list --limit 10", doc: "the first ten" }],
  options: {
    config: configOption,
    limit: limitOption,
    cursor: cursorOption,
    json: jsonListOption,
  },
  async run({ options }, context) {
    const columns = [
      { title: "id", cell: member("id") },
      { title: "lane", cell: member("lane") },
      { title: "bytes", align: "right" as const, cell: member("bytes") },
      { title: "accepted", cell: timeMember("at") },
      { title: "topic", cell: member("topic") },
    ];
    const none = "Nothing waits to be sent.";
    const client = controlClient(options, context);
    await printList(client, { ...options, name: "outbox", columns, none }, context);
    return exit.done;
  },
});

const stats = defineSubcommand({
  name: "stats",
  summary: "Show how full each lane is.",
  examples: [{ command: "outbox stats --json", doc: "for machines" }],
  options: { config: configOption, json: flag("print one JSON object") },
  async run({ options }, context) {
    const { outbox } = await controlClient(options, context).status();
    if (options.json) {
      context.stdout.write(`${JSON.stringify(outbox)}\n`);
      return exit.done;
    }
    const style = styler(context);
    const facts = [
      ["in flight", outbox.inFlight],
      ["in quarantine", outbox.quarantined],
      ["written to disk", outbox.persisted],
      ["sent without", outbox.elided],
    ].map(([name, count]) => [String(name), String(count)] as const);
    context.stdout.write(`${renderFacts(facts, style)}\n${renderLanes(outbox, style)}`);
    return exit.done;
  },
});

export const outbox = defineGroup({
  name: "outbox",
  summary: "Show what waits to be sent.",
  help: "Asks the running agent over its local socket. Exit status 3 when no agent answers.",
  subcommands: [list, stats],
});
