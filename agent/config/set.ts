import { join } from "node:path";
import { HoldfastError } from "../core/errors.ts";
import { type ConfigSources, type LoadedConfig, loadConfig, ownFolder } from "./agent-config.ts";
import { type Files, systemFiles } from "./files.ts";
import { agentTable } from "./keys.ts";
import { formatPath, formatWhere, type Node, type TableNode } from "./node.ts";
import { Secret } from "./secret.ts";
import { listKeys } from "./table.ts";
import {
  formatTomlKey,
  formatTomlValue,
  parseToml,
  parseTomlKey,
  type TomlMap,
  type TomlValue,
} from "./toml.ts";
import { resolvePath } from "./value.ts";

const FILE_NAME = "50-set.toml";
const HEAD = "# Written by `holdfast config set`; comments in here do not last.\n";

export interface SetResult {
  /** The file that was written. */
  readonly file: string;
  /** What is in force now, all sources together. */
  readonly loaded: LoadedConfig;
  /** A stronger source that hides the new value, as an operator finds it. */
  readonly hiddenBy: string | undefined;
}

/**
 * Writes one key to `<state.dir>/conf.d/50-set.toml`, after the whole configuration has been loaded
 * with it. `value` is text as for a variable: `5`, `true`, `a,b` or `["a", "b"]`. Throws `usage`
 * for a key that cannot be set so, and what `loadConfig` throws; then nothing was written.
 */
export function setValue(
  sources: ConfigSources,
  { key, value }: { readonly key: string; readonly value: string },
  files: Files = systemFiles,
): SetResult {
  const path = settablePath(key);
  const file = join(ownFolder(sources, files), FILE_NAME);
  const typed = typedValue(sources, { path, value }, files);
  const text = HEAD + formatTables(withValue(currentValues(file, files), path, typed));
  const loaded = loadConfig(sources, withFile(files, file, text));
  // A secret may be in it, now or later.
  files.writeAtomic(file, text, 0o600);
  const where = loaded.origins.get(formatPath(secretPath(path) ?? path));
  const hiddenBy = where && where.name !== file ? formatWhere(where) : undefined;
  return { file, loaded, hiddenBy };
}

function settablePath(key: string): readonly string[] {
  const path = parseTomlKey(key);
  if (!path || path.length < 2) {
    throw new HoldfastError("usage", `"${key}" names no key; expected SECTION.KEY.`);
  }
  if (path[0] === "commands" && path[1] === "keys") {
    throw new HoldfastError("usage", "Keys of commanders are set in a file: [[commands.keys]].");
  }
  if (formatPath(path) === "state.dir") {
    throw new HoldfastError("usage", "state.dir is where set keys are kept; set it in the file.");
  }
  return path;
}

/** Lets the loader read the text as it reads a flag, and takes what it made of it. */
function typedValue(
  sources: ConfigSources,
  { path, value }: { readonly path: readonly string[]; readonly value: string },
  files: Files,
): TomlValue {
  const flags = [...(sources.flags ?? []), `${formatPath(path)}=${value}`];
  const { config } = loadConfig({ ...sources, flags }, files);
  // The path of a secret's file is not in the loaded object, the secret is.
  if (secretPath(path)) {
    const where = { source: "flag", name: "" } as const;
    return resolvePath(value, { kind: "text", where, text: value }, sources.folders);
  }
  let found: unknown = config;
  for (const part of path) found = (found as Readonly<Record<string, unknown>>)[part];
  return found instanceof Secret ? found.reveal() : (found as TomlValue);
}

/** Of `auth.secret_file` the path of the secret. */
function secretPath(path: readonly string[]): readonly string[] | undefined {
  const bare = path.map((part, i) => (i === path.length - 1 ? part.replace(/_file$/, "") : part));
  const wanted = formatPath(bare);
  if (wanted === formatPath(path)) return undefined;
  const isSecret = listKeys(agentTable).some(
    (listed) => listed.key.type === "secret" && formatPath(listed.path) === wanted,
  );
  return isSecret ? bare : undefined;
}

function currentValues(file: string, files: Files): TomlMap {
  const bytes = files.read(file);
  const result = bytes && parseToml(bytes, file);
  return result?.ok ? toMap(result.root) : {};
}

function toMap(table: TableNode): TomlMap {
  return Object.fromEntries([...table.entries].map(([key, node]) => [key, toValue(node)]));
}

function toValue(node: Node): TomlValue {
  if (node.kind === "table") return toMap(node);
  if (node.kind === "list") return node.items.map(toValue);
  // The loader has taken this file, so there are no dates and no oversized integers in it.
  return node.kind === "text" ? node.text : (node.value as string | number | boolean);
}

/** A secret and the file of a secret replace each other. */
function withValue(map: TomlMap, path: readonly string[], value: TomlValue): TomlMap {
  const [first, ...rest] = path;
  if (first === undefined) return map;
  if (rest.length > 0) {
    const inner = map[first];
    const base = typeof inner === "object" && !Array.isArray(inner) ? (inner as TomlMap) : {};
    return { ...map, [first]: withValue(base, rest, value) };
  }
  const { [`${first}_file`]: _, [first.replace(/_file$/, "")]: __, ...others } = map;
  return { ...others, [first]: value };
}

function formatTables(map: TomlMap, path: readonly string[] = []): string {
  const entries = Object.entries(map);
  const isTable = ([, value]: [string, TomlValue]): boolean =>
    typeof value === "object" && !Array.isArray(value);
  const keys = entries.filter((entry) => !isTable(entry));
  const header =
    path.length > 0 && keys.length > 0 ? `\n[${path.map(formatTomlKey).join(".")}]\n` : "";
  const lines = keys.map(([key, value]) => `${formatTomlKey(key)} = ${formatTomlValue(value)}\n`);
  const inner = entries.filter(isTable);
  const tables = inner.map(([key, value]) => formatTables(value as TomlMap, [...path, key]));
  return header + lines.join("") + tables.join("");
}

/** The files as they will be, to load before writing. */
function withFile(files: Files, path: string, text: string): Files {
  const folder = join(path, "..");
  return {
    writeAtomic: (...all) => files.writeAtomic(...all),
    read: (name) => (name === path ? Buffer.from(text) : files.read(name)),
    mode: (name) => (name === path ? 0o600 : files.mode(name)),
    list: (name) =>
      name === folder
        ? [...new Set([...files.list(name), FILE_NAME])].toSorted()
        : files.list(name),
  };
}
