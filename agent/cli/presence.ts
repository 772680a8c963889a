/** `holdfast presence`: who is online, as far as the service knows. */
import type { Presence } from "../../cloud/operator/operator.ts";
import { openFor } from "./send.ts";
import { type Format, styler } from "./style.ts";
import { defineSubcommand, exit, flag, option, restArguments, text } from "./subcommand.ts";
import { type Column, renderTable } from "./table.ts";

export const presence = defineSubcommand({
  name: "presence",
  summary: "Ask the service which devices are online.",
  help:
    "Needs [account] in commander.toml; without it the answer is unknown. More than one connection " +
    "hints at two devices with one client id. A device that lost its power may count as online " +
    "until the service has missed its keep-alive.",
  examples: [
    { command: "presence gw-01 gw-02", doc: "two devices of the commander's group" },
    { command: "presence gw-01 --json", doc: "as JSON" },
  ],
  arguments: { devices: restArguments("DEVICE", "client ids, or their parts behind @@@") },
  options: {
    json: flag("print a JSON list"),
    config: option({
      value: "FILE",
      doc: "instead of commander.toml in its usual place",
      parse: text,
    }),
  },
  run: async ({ arguments: { devices }, options }, context) => {
    const commander = openFor(options.config, context);
    const found = await commander.presence(devices, context.signal);
    context.stdout.write(
      options.json ? `${JSON.stringify(found)}\n` : renderTable(columns, found, styler(context)),
    );
    return found.some(({ error }) => error) ? exit.failed : exit.done;
  },
});

const columns: readonly Column<Presence>[] = [
  { title: "device", cell: ({ device }) => device },
  { title: "state", cell: ({ online }) => stateText(online), format: stateFormat },
  { title: "connections", cell: ({ connections }) => String(connections ?? "-") },
  { title: "source", cell: ({ source, error }) => error?.message ?? source },
];

function stateText(online: boolean | null): string {
  if (online === null) return "unknown";
  return online ? "online" : "offline";
}

function stateFormat({ online }: Presence): Format | undefined {
  if (online === null) return "yellow";
  return online ? "green" : undefined;
}
