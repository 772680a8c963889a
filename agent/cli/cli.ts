/**
 * The command line: from words to a subcommand and from its outcome to an exit status.
 *
 * - The subcommands declare themselves (`subcommand.ts`); this is the only file that knows the
 *   library which reads the words.
 * - Only the subcommand that is asked for is loaded: `holdfast publish` in a loop must not pay for
 *   the agent.
 * - Whatever happens, `runCli` resolves with one of the four statuses of surface 2 and has told
 *   stderr why. It never exits the process.
 */
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { describeError, type ErrorCode, HoldfastError } from "../core/errors.ts";
import { registry } from "./registry.ts";
import type {
  ArgumentSpec,
  CliContext,
  LazySubcommand,
  OptionSpec,
  Subcommand,
  SubcommandInput,
} from "./subcommand.ts";
import { type ExitStatus, exit } from "./subcommand.ts";

/** The codes that do not mean "failed". */
const statusOfCode: Partial<Record<ErrorCode, ExitStatus>> = {
  usage: exit.usage,
  config_invalid: exit.usage,
  secret_exposed: exit.usage,
  session_change_refused: exit.usage,
  client_id_invalid: exit.usage,
  unreachable: exit.unreachable,
  timed_out: exit.unreachable,
  not_connected: exit.unreachable,
  connect_failed: exit.unreachable,
  connect_timeout: exit.unreachable,
};

/** Runs `argv`, the words after the program's name. */
export async function runCli(
  argv: readonly string[],
  context: CliContext,
  subcommands: readonly LazySubcommand[] = registry,
): Promise<ExitStatus> {
  let status: ExitStatus = exit.done;
  const program = styled(new Command("holdfast"), context)
    .description("Keeps one connection to an MQTT service and holds fast to every message.")
    .version(`holdfast ${context.version}`, "-V, --version", "print the version")
    .helpOption("-h, --help", "show this help")
    .helpCommand("help [command]", "show the help of a command")
    .enablePositionalOptions();
  try {
    for (const lazy of subcommands) {
      const wanted = lazy.name === argv[0] || (argv[0] === "help" && lazy.name === argv[1]);
      const declaration = wanted ? await lazy.load() : lazy;
      program.addCommand(
        build(declaration, lazy.name, context, (outcome) => {
          status = outcome;
        }),
      );
    }
    await program.parseAsync([...argv], { from: "user" });
    return status;
  } catch (error) {
    return report(error, context);
  }
}

function build(
  declaration: Subcommand,
  path: string,
  context: CliContext,
  finish: (status: ExitStatus) => void,
): Command {
  const command = styled(new Command(declaration.name), context)
    .summary(declaration.summary)
    .description([declaration.summary, declaration.help].filter(Boolean).join("\n\n"))
    .helpOption("-h, --help", "show this help");
  if (declaration.examples) command.addHelpText("after", exampleText(declaration.examples));
  for (const spec of Object.values(declaration.arguments ?? {})) {
    command.addArgument(argumentOf(spec));
  }
  for (const [key, spec] of Object.entries(declaration.options ?? {})) {
    command.addOption(optionOf(key, spec));
  }
  for (const child of declaration.subcommands ?? []) {
    command.addCommand(build(child, `${path} ${child.name}`, context, finish));
  }
  if (declaration.subcommands) command.helpCommand(false);
  // Both may have an option of one name: what stands behind the name below belongs to that one.
  if (declaration.subcommands) command.enablePositionalOptions();
  if (declaration.run) {
    command.action(async () => {
      finish((await declaration.run?.(inputOf(declaration, command), context)) ?? exit.done);
    });
  }
  return command;
}

/** Errors are thrown instead of exiting, and everything is written where the context says. */
function styled(command: Command, context: CliContext): Command {
  return command.exitOverride().configureOutput({
    writeOut: (written) => context.stdout.write(written),
    writeErr: (written) => context.stderr.write(written),
    getOutHelpWidth: () => context.columns,
    getErrHelpWidth: () => context.columns,
    getOutHasColors: () => false,
    getErrHasColors: () => false,
    outputError: (message, write) => {
      const line = message
        .trim()
        .replace(/^error: /, "")
        .replaceAll(/\s*\n\s*/g, " ");
      write(`holdfast: usage: ${line}\nSee: holdfast ${helpPath(command)}--help\n`);
    },
  });
}

function helpPath(command: Command): string {
  const names: string[] = [];
  for (let at: Command | null = command; at?.parent; at = at.parent) names.unshift(at.name());
  return names.map((name) => `${name} `).join("");
}

function exampleText(examples: NonNullable<Subcommand["examples"]>): string {
  const lines = examples.map(({ command, doc }) => `  # ${doc}\n  holdfast ${command}`);
  return `\nExamples:\n${lines.join("\n")}`;
}

function argumentOf(spec: ArgumentSpec<unknown>): Argument {
  const several = spec.kind === "rest" || spec.kind === "any";
  const optional = spec.kind === "optional" || spec.kind === "any";
  const shown = several ? `${spec.name}...` : spec.name;
  const argument = new Argument(optional ? `[${shown}]` : `<${shown}>`, spec.doc);
  if (several) return argument;
  return argument.argParser((given) => parsed(spec, given));
}

function optionOf(key: string, spec: OptionSpec<unknown>): Option {
  const long = `--${flagName(key)}`;
  const shape = spec.kind === "flag" ? long : `${long} <${spec.value}>`;
  const option = new Option(spec.short ? `-${spec.short}, ${shape}` : shape, spec.doc);
  option.hideHelp(spec.hidden ?? false);
  if (spec.kind === "flag") return option;
  if (spec.kind === "value" && spec.default !== undefined) option.default(spec.default);
  return option.argParser((given: string, before: unknown) => {
    const value = parsed(spec, given);
    return spec.kind === "repeated" ? [...(Array.isArray(before) ? before : []), value] : value;
  });
}

/** `maxAge` is `max-age`. */
function flagName(key: string): string {
  return key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function parsed(spec: ArgumentSpec<unknown> | OptionSpec<unknown>, given: string): unknown {
  try {
    return spec.parse(given);
  } catch (error) {
    if (error instanceof HoldfastError && error.code === "usage") {
      throw new InvalidArgumentError(error.message);
    }
    throw error;
  }
}

/** What the library read, under the keys of the declaration. */
function inputOf(declaration: Subcommand, command: Command): SubcommandInput {
  const keys = Object.keys(declaration.arguments ?? {});
  const positional = keys.map((key, at) => [key, command.processedArgs[at]] as const);
  const given: Record<string, unknown> = command.opts();
  const options = Object.entries(declaration.options ?? {}).map(([key, spec]) => {
    const built = optionOf(key, spec);
    const value = given[built.attributeName()];
    // The library turns `--no-wait` into `wait: false`; the declaration says `noWait: true`.
    return [key, built.negate ? value === false : (value ?? spec.default)] as const;
  });
  return { arguments: Object.fromEntries(positional), options: Object.fromEntries(options) };
}

function report(error: unknown, context: CliContext): ExitStatus {
  if (error instanceof CommanderError) {
    // Help and version end by a throw of status 0; help for a missing subcommand is wrong usage.
    return error.exitCode === 0 ? exit.done : exit.usage;
  }
  if (error instanceof HoldfastError) {
    context.stderr.write(`holdfast: ${error.code}: ${error.message}\n`);
    if (error.cause !== undefined && error.cause !== null) {
      context.stderr.write(`  because: ${describeError(error.cause)}\n`);
    }
    return statusOfCode[error.code] ?? exit.failed;
  }
  if (context.signal.aborted) return exit.failed; // Interrupted: the one who did it knows.
  const shown = error instanceof Error ? (error.stack ?? error.message) : String(error);
  context.stderr.write(`holdfast: this is a bug, please report it: ${shown}\n`);
  return exit.failed;
}
