/** Where subcommands get the configuration and the running agent from. */
import { homedir } from "node:os";
import { type ConfigSources, loadConfig } from "../config/config.ts";
import { ControlClient } from "../control/control.ts";
import type { CliContext } from "./subcommand.ts";
import { option, repeated, text } from "./subcommand.ts";

const DEFAULT_CONTROL_DIR = "/run/holdfast";

export const configOption = option({
  value: "FILE",
  doc: "the agent's configuration file",
  parse: text,
  short: "c",
});

export const setOption = repeated({
  value: "KEY=VALUE",
  doc: "set a key for this run, as in service.keepalive_s=30; may be repeated",
  parse: text,
});

export function configSources(
  { config, set }: { readonly config: string | undefined; readonly set?: readonly string[] },
  { env }: Pick<CliContext, "env">,
): ConfigSources {
  const home = env["HOME"] ?? homedir();
  const folders = { working: process.cwd(), home };
  return { file: config, environment: env, flags: set ?? [], folders };
}

/** Found by `--config`, else HOLDFAST_CONTROL__DIR, else /run/holdfast (surface 4). */
export function controlClient(
  options: { readonly config: string | undefined },
  context: CliContext,
): ControlClient {
  const { env, clock, signal } = context;
  const dir =
    options.config === undefined
      ? (env["HOLDFAST_CONTROL__DIR"] ?? DEFAULT_CONTROL_DIR)
      : loadConfig(configSources(options, context)).config.control.dir;
  return new ControlClient({ dir }, { clock, signal });
}
