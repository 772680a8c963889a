import type { StatusReport } from "../control/control.ts";
import { configOption, controlClient } from "./sources.ts";
import { bytesText, durationText, type Format, printable, type Styler, styler } from "./style.ts";
import { type CliContext, decimal, defineSubcommand, exit, flag, option } from "./subcommand.ts";
import { type Column, renderFacts, renderTable } from "./table.ts";

const CLEAR_SCREEN = "\u001b[H\u001b[2J";

export const status = defineSubcommand({
  name: "status",
  summary: "Show what the agent is doing.",
  help: "Asks the running agent over its local socket. Exit status 3 when no agent answers.",
  examples: [
    { command: "status", doc: "the agent of this machine" },
    { command: "status --config ./agent.toml --json", doc: "another one, for machines" },
    { command: "status --watch 2", doc: "again every 2 seconds" },
  ],
  options: {
    config: configOption,
    json: flag("print the report as one JSON object (one a line with --watch)"),
    watch: option({
      value: "SECONDS",
      doc: "show it again and again",
      parse: decimal({ min: 0.1, max: 86_400 }),
    }),
  },
  async run({ options }, context) {
    const client = controlClient(options, context);
    const show = async (): Promise<void> => {
      const report = await client.status();
      if (options.json) context.stdout.write(`${JSON.stringify(report)}\n`);
      else {
        const clear = options.watch !== undefined && context.isTty ? CLEAR_SCREEN : "";
        context.stdout.write(clear + renderStatus(report, context));
      }
    };
    await show();
    while (options.watch !== undefined) {
      await context.clock.sleep(options.watch * 1000, context.signal);
      if (context.signal.aborted) break;
      await show();
    }
    return exit.done;
  },
});

function renderStatus(report: StatusReport, context: CliContext): string {
  const style = styler(context);
  const nowMs = context.clock.wallMs();
  const title = `holdfast ${printable(report.version)}  ${printable(report.device.clientId)}`;
  const up = `up ${durationText(nowMs - report.startedAt)}`;
  const plugins = renderTable(pluginColumns, report.plugins, style);
  return [
    `${style("bold", title)}  ${style("dim", up)}\n`,
    renderFacts(factsOf(report, nowMs, style), style),
    renderLanes(report.outbox, style),
    plugins,
  ]
    .filter((part) => part !== "")
    .join("\n");
}

function factsOf(report: StatusReport, nowMs: number, style: Styler): [string, string][] {
  const { credentials, clock, store, commands, health, outbox } = report;
  const expiry = credentials.expiresAt;
  const ofClock = clock.trusted ? style("green", "trusted") : style("yellow", "not trusted");
  return [
    ["connection", connectionText(report.connection, nowMs, style)],
    [
      "credentials",
      `${printable(credentials.mode)}${expiry === null ? "" : `, ${expiryText(expiry - nowMs)}`}`,
    ],
    ["clock", `${ofClock} (${printable(clock.source)})`],
    [
      "store",
      `${style(store.state === "open" ? "green" : "red", printable(store.state))}, ` +
        `${bytesText(store.bytes)} of ${bytesText(store.quotaBytes)}` +
        (store.salvages > 0 ? `, saved from damage ${store.salvages} times` : "") +
        (store.aside === null ? "" : `, ${printable(store.aside)} set aside`) +
        (store.trouble === null ? "" : `\n${style("yellow", printable(store.trouble))}`),
    ],
    [
      "commands",
      `${commands.queued} queued, ${commands.running} running, ` +
        `${commands.finished} finished, ${commands.rejected} rejected`,
    ],
    [
      "outbox",
      `${outbox.inFlight} in flight, ${outbox.quarantined} in quarantine, ` +
        `${outbox.persisted} written to disk, ${outbox.elided} sent without`,
    ],
    ["health", healthText(health, nowMs, style)],
  ];
}

function expiryText(leftMs: number): string {
  return leftMs > 0
    ? `for another ${durationText(leftMs)}`
    : `expired ${durationText(-leftMs)} ago`;
}

const stateFormats: Record<StatusReport["connection"]["state"], Format> = {
  online: "green",
  idle: "dim",
  connecting: "yellow",
  "backing-off": "yellow",
  refused: "red",
  stopped: "red",
};

function connectionText(
  connection: StatusReport["connection"],
  nowMs: number,
  style: Styler,
): string {
  const { state, endpoint, since, attempts, lastError } = connection;
  const where = endpoint === null ? "" : ` (${printable(endpoint)})`;
  const tries = state === "online" || attempts === 0 ? "" : `, attempt ${attempts}`;
  const line = `${style(stateFormats[state], state)} for ${durationText(nowMs - since)}${where}${tries}`;
  if (!lastError) return line;
  const error = `last error: ${printable(lastError.code)}: ${printable(lastError.message)}`;
  return `${line}\n${style("dim", error)}`;
}

function healthText({ status, alarms }: StatusReport["health"], nowMs: number, style: Styler) {
  const healthy = status === "ok" && alarms.length === 0;
  const lines = alarms.map(({ alarm, severity, cause, at }) => {
    const text = `${alarm} (${severity}, for ${durationText(nowMs - at)}): ${cause}`;
    return style("yellow", printable(text));
  });
  return [style(healthy ? "green" : "yellow", printable(status)), ...lines].join("\n");
}

const pluginColumns: readonly Column<StatusReport["plugins"][number]>[] = [
  { title: "plugin", cell: ({ name }) => name },
  { title: "version", cell: ({ version }) => version },
  { title: "isolation", cell: ({ isolation }) => isolation },
  { title: "restarts", align: "right", cell: ({ restarts }) => String(restarts) },
  {
    title: "state",
    cell: ({ state }) => state,
    format: ({ state }) => (state === "running" ? "green" : "red"),
  },
];

type Lane = StatusReport["outbox"]["lanes"][string] & { readonly name: string };

const laneColumns: readonly Column<Lane>[] = [
  { title: "lane", cell: ({ name }) => name },
  { title: "messages", align: "right", cell: ({ messages }) => String(messages) },
  { title: "size", align: "right", cell: ({ bytes }) => bytesText(bytes) },
  {
    title: "oldest",
    align: "right",
    cell: ({ messages, oldestAgeMs }) => (messages === 0 ? "-" : durationText(oldestAgeMs)),
  },
  {
    title: "let go",
    cell: ({ dropped }) => {
      const reasons = Object.entries(dropped).filter(([, count]) => count > 0);
      return reasons.map(([reason, count]) => `${count} ${reason}`).join(", ") || "-";
    },
    format: ({ dropped }) =>
      Object.values(dropped).some((count) => count > 0) ? "yellow" : undefined,
  },
];

export function renderLanes({ lanes }: StatusReport["outbox"], style: Styler): string {
  const rows = Object.entries(lanes).map(([name, lane]) => ({ name, ...lane }));
  return renderTable(laneColumns, rows, style);
}
