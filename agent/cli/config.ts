import {
  agentTable,
  ENVIRONMENT_PREFIX,
  formatTomlValue,
  getValue,
  loadConfig,
  renderConfig,
  renderDocs,
  setValue,
} from "../config/config.ts";
import { HoldfastError } from "../core/errors.ts";
import { configOption, configSources, setOption } from "./sources.ts";
import { styler } from "./style.ts";
import { argument, defineGroup, defineSubcommand, exit, flag } from "./subcommand.ts";

const check = defineSubcommand({
  name: "check",
  summary: "Say whether the configuration is right.",
  help:
    "Exit status 2 and one line for each problem when it is not: file, line, key, what is wrong " +
    "and what was expected. Warnings do not change the exit status.",
  examples: [
    { command: "config check --config /etc/holdfast/agent.toml", doc: "before a restart" },
  ],
  options: {
    config: configOption,
    set: setOption,
    json: flag('print {"warnings": [{"key", "message"}]}'),
  },
  async run({ options }, context) {
    const { warnings } = loadConfig(configSources(options, context));
    if (options.json) {
      context.stdout.write(`${JSON.stringify({ warnings })}\n`);
      return exit.done;
    }
    const style = styler(context);
    for (const { key, message } of warnings) {
      context.stdout.write(`${style("yellow", "warning")} ${key}: ${message}\n`);
    }
    const count = warnings.length === 1 ? "1 warning" : `${warnings.length} warnings`;
    context.stdout.write(`The configuration is right (${count}).\n`);
    return exit.done;
  },
});

const show = defineSubcommand({
  name: "show",
  summary: "Print the configuration in force, or all keys with their documentation.",
  help: "All sources together, as TOML. Secrets are masked.",
  examples: [
    { command: "config show --docs > agent.toml", doc: "a file to start from" },
    { command: "config show --config agent.toml --origin", doc: "and where each value is from" },
  ],
  options: {
    config: configOption,
    set: setOption,
    docs: flag("every key with its default and what it means; reads no configuration"),
    origin: flag("behind each key, who set it"),
  },
  async run({ options }, context) {
    if (options.docs) {
      if (options.origin) throw new HoldfastError("usage", "Give either --docs or --origin.");
      context.stdout.write(renderDocs(agentTable, { environmentPrefix: ENVIRONMENT_PREFIX }));
      return exit.done;
    }
    const loaded = loadConfig(configSources(options, context));
    context.stdout.write(renderConfig(agentTable, loaded, { origin: options.origin }));
    return exit.done;
  },
});

const get = defineSubcommand({
  name: "get",
  summary: "Print one key or one section.",
  help: "A text is printed as it is, everything else as TOML. Secrets are masked.",
  examples: [{ command: "config get service.keepalive_s", doc: "the value in force" }],
  arguments: { key: argument("KEY", "as in service.keepalive_s") },
  options: { config: configOption, set: setOption, json: flag("print it as JSON") },
  async run({ arguments: { key }, options }, context) {
    const value = getValue(loadConfig(configSources(options, context)), key);
    const plain = typeof value === "string" ? value : formatTomlValue(value);
    context.stdout.write(`${options.json ? JSON.stringify(value) : plain}\n`);
    return exit.done;
  },
});

const set = defineSubcommand({
  name: "set",
  summary: "Set one key, after the whole configuration was checked with it.",
  help:
    "Writes <state.dir>/conf.d/50-set.toml, which the agent reads at its next start or reload. " +
    "Exit status 2 when the configuration would be wrong; then nothing is written.",
  examples: [{ command: "config set log.level debug --config agent.toml", doc: "one key" }],
  arguments: {
    key: argument("KEY", "as in service.keepalive_s"),
    value: argument("VALUE", "as in 5, true, debug or a,b"),
  },
  options: { config: configOption, json: flag('print {"file", "hiddenBy"}') },
  async run({ arguments: { key, value }, options }, context) {
    const { file, hiddenBy } = setValue(configSources(options, context), { key, value });
    context.stdout.write(
      options.json
        ? `${JSON.stringify({ file, hiddenBy: hiddenBy ?? null })}\n`
        : `${key} is set in ${file}\n`,
    );
    if (hiddenBy !== undefined) {
      context.stderr.write(`It has no effect now: ${hiddenBy} sets the same key and wins.\n`);
    }
    return exit.done;
  },
});

export const config = defineGroup({
  name: "config",
  summary: "Check, show and change the configuration.",
  help:
    "Later sources win: the file given by --config, conf.d/*.toml beside it, " +
    "<state.dir>/conf.d/*.toml, HOLDFAST_SECTION__KEY variables, --set.",
  subcommands: [check, show, get, set],
});
