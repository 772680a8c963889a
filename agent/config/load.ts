/**
 * From sources to one typed object. Every layer is checked, also where a later one wins: a wrong
 * value that is hidden today breaks the day the other one is taken away.
 */
import { describeError } from "../core/errors.ts";
import { type Files, systemFiles } from "./files.ts";
import { loadFree } from "./free.ts";
import { describeNode, formatPath, type Node, type TableNode, type Where } from "./node.ts";
import { didYouMean, Problems } from "./problems.ts";
import { Secret } from "./secret.ts";
import { readLayers, type Sources, withoutNewline } from "./sources.ts";
import type { Fields, Key, Loaded, Named, Table, Tables } from "./table.ts";
import { type Declaration, defaultOf } from "./table.ts";
import { expectation, readValue, resolvePath } from "./value.ts";

export interface Warning {
  readonly key: string;
  readonly message: string;
}

export interface LoadResult<T> {
  readonly config: T;
  readonly warnings: readonly Warning[];
  /** Where each key that is not at its default was set, by dotted key. */
  readonly origins: ReadonlyMap<string, Where>;
}

/** For checks across keys, which see a whole object. Keys are dotted. */
export interface Report {
  isSet(key: string): boolean;
  /** A message of the form "what is wrong; expected what". Silent if one of `keys` is wrong anyway. */
  wrong(keys: readonly [string, ...string[]], message: string): void;
  /** As for a file that must be private: refuses it if group or others may read it. */
  exposed(key: string, path: string): void;
  warn(key: string, message: string): void;
}

export interface LoadOptions<T> {
  readonly files?: Files;
  /** Checks across keys, and fills in what depends on other keys. */
  readonly finish?: (config: T, report: Report) => T;
}

/** Throws `config_invalid` or `secret_exposed`, whose message has one line for each problem. */
export function loadToml<F extends Fields>(
  table: Table<F>,
  sources: Sources,
  { files = systemFiles, finish }: LoadOptions<Loaded<Table<F>>> = {},
): LoadResult<Loaded<Table<F>>> {
  const problems = new Problems();
  const layers = readLayers(table, sources, { files, problems });
  problems.throwIfUnreadable();
  const loader = new Loader(sources, { files, problems });
  // The one cast of the loader: it builds by the declaration what Loaded says of it.
  let config = loader.section(table.fields, [], layers) as Loaded<Table<F>>;
  if (finish) config = finish(config, loader.report());
  problems.throwIfAny();
  return { config, warnings: loader.warnings, origins: loader.origins };
}

/**
 * What the sources say as far as they can be read, for a caller that must know one key before it
 * knows all the sources. What is wrong with them is for the load that follows to say.
 */
export function peek<F extends Fields>(
  table: Table<F>,
  sources: Sources,
  files: Files,
): Loaded<Table<F>> {
  const deps = { files, problems: new Problems() };
  const layers = readLayers(table, sources, deps);
  const values = new Loader(sources, deps).section(table.fields, [], layers);
  return values as Loaded<Table<F>>;
}

type Path = readonly string[];
type Defaults = Readonly<Record<string, string | number | boolean>>;
interface Candidate {
  readonly node: Node;
  /** True: the node is the path of a file with the value. */
  readonly inFile: boolean;
}

class Loader {
  readonly origins = new Map<string, Where>();
  readonly warnings: Warning[] = [];
  readonly #sources: Sources;
  readonly #files: Files;
  readonly #problems: Problems;
  readonly #checkedFiles = new Set<string>();

  constructor(
    sources: Sources,
    { files, problems }: { readonly files: Files; readonly problems: Problems },
  ) {
    this.#sources = sources;
    this.#files = files;
    this.#problems = problems;
  }

  report(): Report {
    return {
      isSet: (key) => this.origins.has(key),
      wrong: (keys, message) => {
        const paths = keys.map((key) => key.split("."));
        if (paths.some((path) => this.#problems.touches(path))) return;
        const where = keys.map((key) => this.origins.get(key)).find((w) => w !== undefined);
        this.#problems.add(where ?? this.#mainFile(), paths[0] ?? [], message);
      },
      exposed: (key, path) => this.#refuseExposed(path, key.split(".")),
      warn: (key, message) => this.warnings.push({ key, message }),
    };
  }

  section(fields: Fields, path: Path, layers: readonly TableNode[], defaults: Defaults = {}) {
    for (const layer of layers) this.#refuseUnknown(fields, path, layer);
    const result: Record<string, unknown> = {};
    for (const [name, declared] of Object.entries(fields)) {
      const at = [...path, name];
      if (declared.kind === "key") {
        const candidates = this.#candidates(declared, at, layers);
        const preset = { ...declared, default: defaults[name] ?? declared.default };
        result[name] = this.#key(preset, at, candidates);
      } else {
        const nodes = layers.map((l) => l.entries.get(name)).filter((n) => n !== undefined);
        result[name] = this.#group(declared, at, nodes);
      }
    }
    return result;
  }

  #group(
    declared: Exclude<Declaration, Key<unknown>>,
    path: Path,
    nodes: readonly Node[],
  ): unknown {
    if (declared.kind === "tables") return this.#tables(declared, path, nodes);
    const layers = nodes.filter((node) => this.#isTable(node, path));
    switch (declared.kind) {
      case "section":
        return this.section(declared.fields, path, layers);
      case "named":
        return this.#named(declared, path, layers);
      case "free":
        return loadFree(path, layers, { problems: this.#problems, origins: this.origins });
    }
  }

  #named({ fields, known }: Named, path: Path, layers: readonly TableNode[]): unknown {
    const byName = new Map<string, TableNode[]>(Object.keys(known).map((name) => [name, []]));
    for (const layer of layers) {
      for (const [given, node] of layer.entries) {
        const name = matchName(given, layer.where, [...byName.keys()]);
        const at = [...path, name];
        if (!NAME.test(name)) {
          const expected = "letters, digits, - and _, at most 64, a letter or digit first";
          this.#problems.add(node.where, at, `the name does not fit; expected ${expected}`);
        } else if (this.#isTable(node, at)) {
          byName.set(name, [...(byName.get(name) ?? []), node]);
        }
      }
    }
    // No prototype: a lane called "constructor" is absent unless somebody declares it.
    const result: Record<string, unknown> = Object.create(null);
    for (const [name, tables] of byName) {
      result[name] = this.section(fields, [...path, name], tables, known[name]?.defaults);
    }
    return result;
  }

  #tables({ fields }: Tables, path: Path, nodes: readonly Node[]): unknown {
    let result: unknown[] = [];
    for (const node of nodes) {
      if (node.kind !== "list" || !node.items.every((item) => item.kind === "table")) {
        const wrong = node.kind === "list" ? "a list of other values" : describeNode(node);
        const expected = `an array of tables in a file: [[${formatPath(path)}]]`;
        this.#problems.add(node.where, path, `it is ${wrong}; expected ${expected}`);
        continue;
      }
      for (const key of [...this.origins.keys()]) {
        if (key.startsWith(`${formatPath(path)}.`)) this.origins.delete(key);
      }
      this.origins.set(formatPath(path), node.where);
      result = node.items.map((item, i) => this.#row(fields, [...path, String(i)], item));
    }
    return result;
  }

  #row(fields: Fields, path: Path, item: Node): unknown {
    if (item.kind !== "table") return undefined;
    this.origins.set(formatPath(path), item.where);
    return this.section(fields, path, [item]);
  }

  #isTable(node: Node, path: Path): node is TableNode {
    if (node.kind === "table") return true;
    const wrong = `it is ${describeNode(node)}; expected a section: [${formatPath(path)}]`;
    this.#problems.add(node.where, path, wrong);
    return false;
  }

  #candidates(key: Key<unknown>, path: Path, layers: readonly TableNode[]): Candidate[] {
    const name = path.at(-1) ?? "";
    const found: Candidate[] = [];
    for (const layer of layers) {
      const node = layer.entries.get(name);
      if (node) found.push({ node, inFile: false });
      const file = key.type === "secret" ? layer.entries.get(`${name}_file`) : undefined;
      if (!file) continue;
      found.push({ node: file, inFile: true });
      if (node) {
        const both = `${name} and ${name}_file are both given; expected one of them`;
        this.#problems.add(file.where, path, both);
      }
    }
    return found;
  }

  #key(key: Key<unknown>, path: Path, candidates: readonly Candidate[]): unknown {
    let value = defaultOf(key, this.#sources.environment ?? {});
    for (const [i, candidate] of candidates.entries()) {
      const last = i === candidates.length - 1;
      const read = key.type === "secret" ? this.#secret(path, candidate, last) : undefined;
      const result = read ?? readValue(key, candidate.node, this.#sources.folders);
      if ("wrong" in result) this.#problems.add(candidate.node.where, path, result.wrong);
      else {
        value = result.value;
        this.origins.set(formatPath(path), candidate.node.where);
      }
    }
    if (candidates.length === 0 && key.required) {
      this.#problems.add(this.#placeOf(path), path, `it is missing; expected ${expectation(key)}`);
    }
    // Checks across keys want something to look at; nobody else sees it, because loading fails.
    return value === undefined && key.required ? (key.example ?? "") : value;
  }

  /** Never shows the value, whatever is wrong with it. A hidden file is not read. */
  #secret(path: Path, { node, inFile }: Candidate, last: boolean) {
    const given =
      node.kind === "text" ? node.text : node.kind === "scalar" ? node.value : undefined;
    if (typeof given !== "string") {
      return { wrong: "it is not a string; expected a string in quotes" };
    }
    if (given === "") return { wrong: "it is empty; expected the secret, or no such key" };
    if (!inFile) {
      if (node.where.source === "file") this.#refuseExposed(node.where.name, path);
      return { value: new Secret(given) };
    }
    if (!last) return { value: undefined };
    return this.#secretFile(path, resolvePath(given, node, this.#sources.folders));
  }

  #secretFile(path: Path, name: string) {
    this.#refuseExposed(name, path);
    let bytes: Uint8Array | undefined;
    try {
      bytes = this.#files.read(name);
    } catch (error) {
      return { wrong: `${name} cannot be read (${describeError(error)})` };
    }
    if (!bytes) return { wrong: `there is no file ${name}; expected one with the secret in it` };
    const value = withoutNewline(bytes);
    if (value === "") return { wrong: `${name} is empty; expected the secret in it` };
    return { value: new Secret(value) };
  }

  #refuseExposed(name: string, path: Path): void {
    if (this.#checkedFiles.has(name)) return;
    this.#checkedFiles.add(name);
    const mode = this.#modeOf(name);
    if (mode !== undefined && (mode & READABLE_BY_OTHERS) !== 0) {
      this.#problems.addExposed(name, path, mode);
    }
  }

  /** Undefined also for a file that may not be looked at; reading it then says why. */
  #modeOf(name: string): number | undefined {
    try {
      return this.#files.mode(name);
    } catch {
      return undefined;
    }
  }

  #refuseUnknown(fields: Fields, path: Path, layer: TableNode): void {
    const known = Object.entries(fields).flatMap(([name, declared]) =>
      declared.kind === "key" && declared.type === "secret" ? [name, `${name}_file`] : [name],
    );
    for (const [name, node] of layer.entries) {
      if (known.includes(name)) continue;
      const hint = didYouMean(name, known);
      const what = node.kind === "table" ? "there is no such section" : "there is no such key";
      const expected = `expected one of ${known.join(", ")}`;
      this.#problems.add(node.where, [...path, name], `${what}${hint || `; ${expected}`}`);
    }
  }

  /** Of a missing key: the row or section it belongs to, else the main file. */
  #placeOf(path: Path): Where | undefined {
    return this.origins.get(formatPath(path.slice(0, -1))) ?? this.#mainFile();
  }

  #mainFile(): Where | undefined {
    const name = this.#sources.files[0];
    return name === undefined ? undefined : { source: "file", name };
  }
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;
const READABLE_BY_OTHERS = 0o044;

/** A variable cannot say `-` or capitals, so it means the name that looks the same without them. */
function matchName(given: string, where: Where, names: readonly string[]): string {
  if (where.source !== "environment") return given;
  const plain = (name: string): string => name.toLowerCase().replaceAll("-", "_");
  return names.find((name) => plain(name) === plain(given)) ?? given;
}
