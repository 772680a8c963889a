/** `holdfast send`: one command to one device, and its reply. */
import { readFile } from "node:fs/promises";
import {
  type Commander,
  openCommander,
  type Run,
  runState,
} from "../../cloud/operator/operator.ts";
import { HoldfastError } from "../core/errors.ts";
import { isJsonObject, type JsonObject, type JsonValue, parseJson } from "../core/json.ts";
import { limits } from "../core/limits.ts";
import { silentLog } from "../core/log.ts";
import { isCommandName } from "../protocol/envelope.ts";
import {
  contradictionText,
  finalText,
  isSucceeded,
  jsonText,
  progressText,
  runJson,
} from "./run-output.ts";
import { printable, type Styler, styler } from "./style.ts";
import {
  argument,
  type CliContext,
  decimal,
  defineSubcommand,
  type ExitStatus,
  exit,
  expected,
  flag,
  integer,
  option,
  type Parser,
  text,
} from "./subcommand.ts";

const HELP = "help";
const DESCRIBE = "agent.describe";
/** As long as the service keeps a message (lmq-protocol 1.3). */
const LIFETIME_S = 259_200;
const DAY_S = 86_400;

const commandName: Parser<string> = (given) => {
  if (given === HELP || isCommandName(given)) return given;
  throw expected(`a command of the form PLUGIN.VERB, or ${HELP}`, given);
};

export const send = defineSubcommand({
  name: "send",
  summary: "Send a command to a device and print its reply.",
  help:
    "DEVICE is a client id, or the part behind @@@ for a device of the commander's own group. The " +
    "command waits in the service for a device that is offline, and the run is kept, so that an " +
    "answer that comes later is found: holdfast runs. A repetition never makes a command run twice.\n\n" +
    "Reads ~/.config/holdfast/commander.toml. Exit status: 0 succeeded, 1 any other final reply, " +
    "2 wrong usage or configuration, 3 no final reply in time.",
  examples: [
    { command: "send gw-01 system.info", doc: "what this device is" },
    { command: "send gw-01 help", doc: "its commands, where it allows agent.describe unsigned" },
    {
      command: `send gw-01 system.processes --params '{"top":5}' --json`,
      doc: "with parameters, the reply as JSON",
    },
    {
      command: "send gw-01 system.ping --no-wait",
      doc: "prints the run, asks for the answer later",
    },
  ],
  arguments: {
    device: argument("DEVICE", "whom"),
    command: argument(
      "COMMAND",
      `PLUGIN.VERB, or ${HELP} for those that the device has`,
      commandName,
    ),
  },
  options: {
    params: option({
      value: "JSON|@FILE",
      doc: "parameters: a JSON object, or a file with one",
      parse: text,
    }),
    timeout: option({
      value: "S",
      doc: "seconds to wait for the final reply",
      parse: decimal({ min: 0.1, max: 7 * DAY_S }),
      default: 30,
    }),
    expiresIn: option({
      value: "S",
      doc: "seconds after which the device refuses it",
      parse: integer({ min: 1, max: 7 * DAY_S }),
      default: LIFETIME_S,
    }),
    noWait: flag("end when the service has the command"),
    progress: flag("show on stderr what the device says before the final reply"),
    json: flag("print the final reply as one JSON object"),
    config: option({
      value: "FILE",
      doc: "instead of commander.toml in its usual place",
      parse: text,
    }),
  },
  run: async ({ arguments: { device, command }, options }, context) => {
    const params = await readParams(options.params);
    const commander = openFor(options.config, context);
    const wantsHelp = command === HELP;
    const outcome = await commander.send(
      {
        device,
        command: wantsHelp ? DESCRIBE : command,
        ...(params ? { params } : {}),
        lifetimeMs: options.expiresIn * 1000,
        wait: !options.noWait,
        progress: options.progress,
      },
      {
        timeoutMs: options.timeout * 1000,
        ...(options.progress ? { onChange: progressTo(context) } : {}),
      },
      context.signal,
    );
    const { run } = outcome;
    if (wantsHelp && isSucceeded(run) && !options.json) {
      context.stdout.write(describeText(run.final?.reply.result, styler(context)));
      return exit.done;
    }
    return report(run, { json: options.json, waited: !options.noWait }, context);
  },
});

/** Also for the other subcommands of the commander. */
export function openFor(configFile: string | undefined, context: CliContext): Commander {
  const { clock, random, env } = context;
  return openCommander(
    { configFile, environment: env, workingDir: process.cwd() },
    { clock, random, log: silentLog },
  );
}

/** Tells stderr of each answer that is not the last one, once. */
export function progressTo(context: CliContext): (run: Run) => void {
  let told: unknown;
  return ({ latest }) => {
    if (!latest || latest === told) return;
    told = latest;
    context.stderr.write(progressText(latest));
  };
}

/** Prints what became of a run; gives the exit status that says it. */
export function report(
  run: Run,
  { json, waited }: { readonly json: boolean; readonly waited: boolean },
  context: CliContext,
): ExitStatus {
  const state = runState(run, context.clock.wallMs());
  if (json) context.stdout.write(runJson(run, state));
  if (run.final) {
    if (!json) context.stdout.write(finalText(run, styler(context)));
    if (run.contradictionCount > 0) context.stderr.write(contradictionText(run));
    return isSucceeded(run) ? exit.done : exit.failed;
  }
  if (!waited && run.sentAt !== undefined) {
    if (!json) context.stdout.write(`${run.id}\n`);
    context.stderr.write(`The service has it. For the answer: holdfast runs wait ${run.id}\n`);
    return exit.done;
  }
  context.stderr.write(`holdfast: timed_out: ${openText(run)}\n`);
  return exit.unreachable;
}

function openText({ id, device, sentAt, latest }: Run): string {
  const who = printable(device);
  if (sentAt === undefined) {
    return (
      `The service did not acknowledge the command in time, so ${who} may not get it. Sending it ` +
      `again does not make it run twice: holdfast runs resume ${id}`
    );
  }
  const said = latest ? ` Its last word was ${latest.reply.status}.` : "";
  return `No final reply of ${who} came in time.${said} To go on waiting: holdfast runs wait ${id}`;
}

async function readParams(given: string | undefined): Promise<JsonObject | undefined> {
  if (given === undefined) return undefined;
  const bytes = given.startsWith("@") ? await readParamsFile(given.slice(1)) : Buffer.from(given);
  const bounds = { maxBytes: limits.commandPayloadBytes, maxDepth: limits.commandJsonDepth };
  let value: JsonValue;
  try {
    value = parseJson(bytes, bounds);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new HoldfastError("usage", `--params is not taken: ${reason}`, { cause });
  }
  if (isJsonObject(value)) return value;
  throw new HoldfastError("usage", "--params must be a JSON object, such as '{\"top\":5}'.");
}

async function readParamsFile(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new HoldfastError("usage", `The file of --params, ${path}, cannot be read.`, { cause });
  }
}

/** What `agent.describe` answers, for a person; anything unexpected is printed as it came. */
function describeText(result: JsonValue | undefined, style: Styler): string {
  const listed = isJsonObject(result) ? result["commands"] : undefined;
  if (!isJsonObject(result) || !Array.isArray(listed)) return `${jsonText(result)}\n`;
  const blocks = listed.filter(isJsonObject).map((entry) => commandText(entry, style));
  const { truncated } = result;
  if (typeof truncated === "number" && truncated > 0) {
    blocks.push(`and ${truncated} more, which did not fit into one reply\n`);
  }
  return blocks.join("\n");
}

function commandText(entry: JsonObject, style: Styler): string {
  const { command, summary, params } = entry;
  const lines = [style("bold", printable(String(command ?? "?")))];
  if (typeof summary === "string") lines.push(`  ${printable(summary)}`);
  const properties = isJsonObject(params) ? params["properties"] : undefined;
  if (isJsonObject(properties) && isJsonObject(params)) {
    const required = Array.isArray(params["required"]) ? params["required"] : [];
    for (const [name, schema] of Object.entries(properties)) {
      lines.push(
        `  ${printable(name)}: ${schemaText(schema)}${required.includes(name) ? " (required)" : ""}`,
      );
    }
  } else if (params !== undefined) lines.push(`  params: ${printable(JSON.stringify(params))}`);
  return `${lines.join("\n")}\n`;
}

function schemaText(schema: JsonValue): string {
  return printable(JSON.stringify(schema).replaceAll('"', ""));
}
