import { dirname, join } from "node:path";
import { finishConfig } from "./across.ts";
import { type Files, systemFiles } from "./files.ts";
import { agentTable, type Config } from "./keys.ts";
import { type LoadResult, loadToml, peek } from "./load.ts";
import type { Sources } from "./sources.ts";
import type { Environment } from "./table.ts";
import type { Folders } from "./value.ts";

export const ENVIRONMENT_PREFIX = "HOLDFAST_";

/** Where the agent's configuration comes from. Nothing is read from the process itself. */
export interface ConfigSources {
  /** The file given to `--config`; without one only the other sources count. */
  readonly file?: string | undefined;
  /** Variables: keys, and what systemd sets ($STATE_DIRECTORY, $CREDENTIALS_DIRECTORY, ...). */
  readonly environment: Environment;
  /** `section.key=value`, as given to `--set`. */
  readonly flags?: readonly string[];
  readonly folders: Folders;
}

export type LoadedConfig = LoadResult<Config>;

/**
 * Throws `config_invalid` or `secret_exposed`, whose message has one line for each problem:
 * `FILE:LINE: key: what is wrong; expected what`.
 */
export function loadConfig(sources: ConfigSources, files: Files = systemFiles): LoadedConfig {
  const own = ownFolder(sources, files);
  const all = { ...toSources(sources), fileFolders: [...besideFolders(sources), own] };
  return loadToml(agentTable, all, {
    files,
    finish: (config, report) => {
      if (join(config.state.dir, "conf.d") !== own) {
        const message = `a file in ${own} moves the folder it is in; expected it in another source`;
        report.wrong(["state.dir"], message);
      }
      return finishConfig(config, report, files);
    },
  });
}

/** `<state.dir>/conf.d`, which is known only after the other sources are. */
export function ownFolder(sources: ConfigSources, files: Files): string {
  const first = { ...toSources(sources), fileFolders: besideFolders(sources) };
  return join(peek(agentTable, first, files).state.dir, "conf.d");
}

function toSources({ file, environment, flags, folders }: ConfigSources): Sources {
  return {
    files: file === undefined ? [] : [file],
    credentialsFolder: environment["CREDENTIALS_DIRECTORY"],
    environmentPrefix: ENVIRONMENT_PREFIX,
    environment,
    flags: flags ?? [],
    folders,
  };
}

function besideFolders({ file }: ConfigSources): string[] {
  return file === undefined ? [] : [join(dirname(file), "conf.d")];
}
