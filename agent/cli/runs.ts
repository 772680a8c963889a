/** `holdfast runs`: what was sent from here, and what came back. */
import { type Run, runState } from "../../cloud/operator/operator.ts";
import { HoldfastError } from "../core/errors.ts";
import { finalText, progressText, statusFormat } from "./run-output.ts";
import { openFor, progressTo, report } from "./send.ts";
import { durationText, printable, styler, timeText } from "./style.ts";
import {
  argument,
  type CliContext,
  decimal,
  defineGroup,
  defineSubcommand,
  type ExitStatus,
  exit,
  flag,
  integer,
  option,
  text,
} from "./subcommand.ts";
import { type Column, renderFacts, renderTable } from "./table.ts";

const LISTED = 20;
const WEEK_S = 604_800;

const config = option({
  value: "FILE",
  doc: "instead of commander.toml in its usual place",
  parse: text,
});
const runArgument = argument("RUN", "the run, as send and runs list print it");

const list = defineSubcommand({
  name: "list",
  summary: "List what was sent, the newest first.",
  help:
    "State: recorded (the service may not have it), sent, running, ended with its final status, or " +
    "expired (the device would refuse it by now).",
  examples: [{ command: "runs list --limit 5", doc: "the last five" }],
  options: {
    limit: option({
      value: "N",
      doc: "how many",
      parse: integer({ min: 1, max: 10_000 }),
      default: LISTED,
    }),
    json: flag("print a JSON list"),
    config,
  },
  run: async ({ options }, context) => {
    const found: Run[] = [];
    const commander = openFor(options.config, context);
    for await (const run of commander.runs.list((error) => warn(error, context))) {
      found.push(run);
      if (found.length >= options.limit) break;
    }
    const nowMs = context.clock.wallMs();
    if (options.json) {
      context.stdout.write(`${JSON.stringify(found.map((run) => summary(run, nowMs)))}\n`);
    } else {
      context.stdout.write(renderTable(columns(nowMs), found, styler(context)));
      if (found.length === 0) context.stderr.write("No commands were sent from here.\n");
    }
    return exit.done;
  },
});

const show = defineSubcommand({
  name: "show",
  summary: "Show one run with everything that came back.",
  examples: [{ command: "runs show 01JD3Z0V6S3M6B9K6Q6C2A1T5R", doc: "one run" }],
  arguments: { run: runArgument },
  options: { json: flag("print a JSON object"), config },
  run: async ({ arguments: { run: id }, options }, context) => {
    const run = await openFor(options.config, context).runs.get(id);
    if (!run) throw new HoldfastError("not_found", `There is no run ${JSON.stringify(id)}.`);
    context.stdout.write(
      options.json ? `${JSON.stringify(whole(run, context))}\n` : details(run, context),
    );
    return exit.done;
  },
});

const wait = defineSubcommand({
  name: "wait",
  summary: "Wait for the final reply of a run.",
  help: "Sends nothing. Exit status as for send.",
  examples: [
    { command: "runs wait 01JD3Z0V6S3M6B9K6Q6C2A1T5R --timeout 600", doc: "up to ten minutes" },
  ],
  ...waiting("wait"),
});

const resume = defineSubcommand({
  name: "resume",
  summary: "Send the command of a run once more and wait.",
  help:
    "For a run that the service may not have got. The bytes are the same, so a device that has it " +
    "already answers from its journal and does not run it again. Exit status as for send.",
  examples: [{ command: "runs resume 01JD3Z0V6S3M6B9K6Q6C2A1T5R", doc: "after a crash" }],
  ...waiting("resume"),
});

export const runs = defineGroup({
  name: "runs",
  summary: "Look after commands that were sent.",
  subcommands: [list, show, wait, resume],
});

/** What wait and resume have in common. */
function waiting(act: "wait" | "resume") {
  return {
    arguments: { run: runArgument },
    options: {
      timeout: option({
        value: "S",
        doc: "seconds to wait for the final reply",
        parse: decimal({ min: 0.1, max: WEEK_S }),
        default: 30,
      }),
      progress: flag("show on stderr what the device says before the final reply"),
      json: flag("print the final reply as one JSON object"),
      config,
    },
    run: async (
      input: {
        readonly arguments: { readonly run: string };
        readonly options: {
          readonly timeout: number;
          readonly progress: boolean;
          readonly json: boolean;
          readonly config: string | undefined;
        };
      },
      context: CliContext,
    ): Promise<ExitStatus> => {
      const { timeout, progress, json, config: file } = input.options;
      const options = {
        timeoutMs: timeout * 1000,
        ...(progress ? { onChange: progressTo(context) } : {}),
      };
      const outcome = await openFor(file, context)[act](
        input.arguments.run,
        options,
        context.signal,
      );
      return report(outcome.run, { json, waited: true }, context);
    },
  };
}

function summary(run: Run, nowMs: number) {
  const { id, device, command, createdAt, expiresAt, sentAt, final, contradictionCount } = run;
  return {
    run: id,
    device,
    command,
    state: runState(run, nowMs),
    status: final?.reply.status ?? null,
    createdAt,
    sentAt: sentAt ?? null,
    endedAt: final?.at ?? null,
    expiresAt,
    contradictions: contradictionCount,
  };
}

function whole(run: Run, context: CliContext) {
  const told = (seen: Run["final"]): unknown => (seen ? JSON.parse(seen.text) : null);
  return {
    ...summary(run, context.clock.wallMs()),
    from: run.from,
    topic: run.topic,
    payload: run.payload,
    latest: told(run.latest),
    final: told(run.final),
    contradicting: run.contradictions.map(told),
  };
}

function columns(nowMs: number): readonly Column<Run>[] {
  return [
    { title: "run", cell: ({ id }) => id },
    { title: "device", cell: ({ device }) => device },
    { title: "command", cell: ({ command }) => command },
    { title: "created", cell: ({ createdAt }) => `${durationText(nowMs - createdAt)} ago` },
    {
      title: "state",
      cell: (run) => run.final?.reply.status ?? runState(run, nowMs),
      format: ({ final }) => final && statusFormat(final.reply.status),
    },
  ];
}

function details(run: Run, context: CliContext): string {
  const style = styler(context);
  const time = (ms: number | undefined): string => (ms === undefined ? "-" : timeText(ms));
  const facts = renderFacts(
    [
      ["run", run.id],
      ["device", printable(run.device)],
      ["command", printable(run.command)],
      ["state", runState(run, context.clock.wallMs())],
      ["from", printable(run.from)],
      ["created", time(run.createdAt)],
      ["sent", time(run.sentAt)],
      ["expires", time(run.expiresAt)],
      ["payload", printable(run.payload)],
    ],
    style,
  );
  const parts = [facts];
  if (run.final) parts.push(finalText(run, style));
  else if (run.latest) parts.push(`latest: ${progressText(run.latest)}`);
  for (const { text: told } of run.contradictions) {
    parts.push(`contradicted by\n${printable(told)}\n`);
  }
  return parts.join("\n");
}

function warn(error: HoldfastError, context: CliContext): void {
  context.stderr.write(`holdfast: warning: ${error.message}\n`);
}
