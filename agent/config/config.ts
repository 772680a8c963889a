/**
 * Configuration: one table of keys, several sources, one typed object.
 *
 * A program declares its keys once (table.ts; the agent's own are in keys.ts). Out of that come the
 * type of the loaded object, defaults, checks, environment names and the documentation. The
 * sources, later wins: the file; `conf.d/*.toml` beside it; `<state.dir>/conf.d/*.toml`, which the
 * program itself writes; systemd's credentials folder; environment variables; flags.
 *
 * Invariants
 * - A configuration is loaded whole or not at all: every problem is reported at once, each with its
 *   file, line, key and what was expected. Nothing is guessed, no unknown key is skipped.
 * - Each source is checked, also where a later one hides it.
 * - A secret is a `Secret` from the moment it is read; no message, rendering or log shows it. A file
 *   that holds one and that group or others may read is refused.
 * - What `setValue` writes was first loaded together with everything else, and reaches the disk
 *   atomically: a power cut leaves the old file or the new one.
 * - A list of tables is replaced by a later source as a whole, everything else key by key.
 */

export {
  type ConfigSources,
  ENVIRONMENT_PREFIX,
  type LoadedConfig,
  loadConfig,
} from "./agent-config.ts";
export { renderDocs } from "./docs.ts";
export { type Files, systemFiles } from "./files.ts";
export { agentTable, type Config } from "./keys.ts";
export { loadToml, type Report } from "./load.ts";
export { Secret } from "./secret.ts";
export { setValue } from "./set.ts";
export { getValue, renderConfig } from "./show.ts";
export {
  choice,
  defineTable,
  flag,
  integer,
  type Loaded,
  list,
  listKeys,
  number,
  path,
  secret,
  section,
  tables,
  text,
} from "./table.ts";
export { formatTomlValue } from "./toml.ts";
