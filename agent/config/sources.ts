import { join } from "node:path";
import { describeError } from "../core/errors.ts";
import type { Files } from "./files.ts";
import { formatPath, type TableNode, tableNode, type Where } from "./node.ts";
import type { Problems } from "./problems.ts";
import { type Environment, type Fields, listKeys, type Table } from "./table.ts";
import { parseToml, parseTomlKey } from "./toml.ts";
import type { Folders } from "./value.ts";

/** Where a configuration comes from, in the order in which the later wins. */
export interface Sources {
  /** Files that must exist. */
  readonly files: readonly string[];
  /** Folders whose `*.toml` follow in the order of their names; they need not exist. */
  readonly fileFolders?: readonly string[];
  /** systemd's $CREDENTIALS_DIRECTORY: a file `auth.secret` gives that key. */
  readonly credentialsFolder?: string | undefined;
  /** Variables named `PREFIX` + `SECTION__KEY`; without a prefix none is taken. */
  readonly environmentPrefix?: string;
  /** Also what defaults are computed from. */
  readonly environment?: Environment;
  /** `section.key=value`, as given to `--set`. */
  readonly flags?: readonly string[];
  readonly folders: Folders;
}

/** One tree for each source, the first ones weakest; what cannot be read is a problem. */
export function readLayers(
  table: Table<Fields>,
  sources: Sources,
  { files, problems }: { readonly files: Files; readonly problems: Problems },
): TableNode[] {
  const layers: (TableNode | undefined)[] = [];
  for (const name of sources.files) layers.push(readFile(name, files, problems));
  for (const folder of sources.fileFolders ?? []) {
    for (const name of listFolder(folder, files, problems)) {
      if (!name.endsWith(".toml") || name.startsWith(".")) continue;
      layers.push(readFile(join(folder, name), files, problems));
    }
  }
  layers.push(readCredentials(table, sources, { files, problems }));
  layers.push(readEnvironment(sources, problems));
  for (const flag of sources.flags ?? []) layers.push(readFlag(flag, problems));
  return layers.filter((layer) => layer !== undefined);
}

/** A folder that may not be entered is a problem, one that is not there is none. */
function listFolder(folder: string, files: Files, problems: Problems): readonly string[] {
  try {
    return files.list(folder);
  } catch (error) {
    const where: Where = { source: "file", name: folder };
    problems.add(where, [], `the folder cannot be read (${describeError(error)})`);
    return [];
  }
}

function readFile(name: string, files: Files, problems: Problems): TableNode | undefined {
  const where: Where = { source: "file", name };
  const before = problems.count;
  const bytes = tryRead(name, where, { files, problems });
  if (bytes === undefined) {
    if (problems.count > before) return undefined;
    problems.add(where, [], "there is no such file; expected the configuration");
    return undefined;
  }
  const result = parseToml(bytes, name);
  if (result.ok) return result.root;
  problems.add({ ...where, line: result.line }, [], result.message);
  return undefined;
}

function tryRead(
  name: string,
  where: Where,
  { files, problems }: { readonly files: Files; readonly problems: Problems },
): Uint8Array | undefined {
  try {
    return files.read(name);
  } catch (error) {
    problems.add(where, [], `the file cannot be read (${describeError(error)})`);
    return undefined;
  }
}

/**
 * The permissions of these files are systemd's: it hands them out read-only, in a folder of the
 * service alone, sometimes by an access list that shows as group-readable.
 */
function readCredentials(
  table: Table<Fields>,
  { credentialsFolder }: Sources,
  { files, problems }: { readonly files: Files; readonly problems: Problems },
): TableNode | undefined {
  if (!credentialsFolder) return undefined;
  const root = tableNode({ source: "credential", name: credentialsFolder });
  for (const { path, key } of listKeys(table)) {
    if (key.type !== "secret" || path.includes("*")) continue;
    const name = join(credentialsFolder, path.join("."));
    const where: Where = { source: "credential", name };
    const bytes = tryRead(name, where, { files, problems });
    if (!bytes) continue;
    insert(root, path, { kind: "text", where, text: withoutNewline(bytes) });
  }
  return root;
}

function readEnvironment(sources: Sources, problems: Problems): TableNode | undefined {
  const { environmentPrefix: prefix, environment } = sources;
  if (prefix === undefined || !environment) return undefined;
  const root = tableNode({ source: "environment", name: "environment" });
  for (const name of Object.keys(environment).toSorted()) {
    const text = environment[name];
    // A name without `__` is no key; HOLDFAST_HOME or the like is somebody else's.
    if (text === undefined || !name.startsWith(prefix) || !name.includes("__")) continue;
    const where: Where = { source: "environment", name };
    const path = name.slice(prefix.length).toLowerCase().split("__");
    if (path.includes("")) problems.add(where, [], "it names no key; expected SECTION__KEY");
    else if (!insert(root, path, { kind: "text", where, text })) {
      problems.add(where, path, "another variable gives a key above or below this one");
    }
  }
  return root;
}

function readFlag(flag: string, problems: Problems): TableNode | undefined {
  // The value stays out of every message: it may be a secret.
  const at = flag.indexOf("=");
  const key = at < 0 ? "" : flag.slice(0, at).trim();
  const path = parseTomlKey(key);
  const where: Where = { source: "flag", name: path ? `--set ${formatPath(path)}` : "--set" };
  if (!path) {
    problems.add(where, [], "the flag is not of its form; expected section.key=value");
    return undefined;
  }
  const root = tableNode(where);
  insert(root, path, { kind: "text", where, text: flag.slice(at + 1) });
  return root;
}

/** False when something that is no table is in the way. */
function insert(
  root: TableNode,
  path: readonly string[],
  node: { readonly kind: "text"; readonly where: Where; readonly text: string },
): boolean {
  let table = root;
  for (const part of path.slice(0, -1)) {
    let next = table.entries.get(part);
    if (!next) {
      next = tableNode(node.where);
      table.entries.set(part, next);
    }
    if (next.kind !== "table") return false;
    table = next;
  }
  const last = path.at(-1);
  if (last === undefined || table.entries.has(last)) return false;
  table.entries.set(last, node);
  return true;
}

/** The text of a secret file: editors and `echo` end it with a newline that nobody meant. */
export function withoutNewline(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes).replace(/\r?\n$/, "");
}
