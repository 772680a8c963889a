import { HoldfastError } from "../core/errors.ts";
import type { LoadResult } from "./load.ts";
import { formatPath, formatWhere } from "./node.ts";
import { didYouMean } from "./problems.ts";
import { Secret } from "./secret.ts";
import type { Declaration, Fields, Table } from "./table.ts";
import {
  formatTomlKey,
  formatTomlValue,
  parseTomlKey,
  type TomlMap,
  type TomlValue,
} from "./toml.ts";

type Path = readonly string[];

/** A loaded configuration as TOML, secrets masked; with `origin`, who set each key. */
export function renderConfig<F extends Fields>(
  table: Table<F>,
  loaded: LoadResult<object>,
  { origin }: { readonly origin: boolean },
): string {
  const note = (path: Path): string => {
    const where = loaded.origins.get(formatPath(path));
    return origin ? `  # ${where ? formatWhere(where) : "default"}` : "";
  };
  const lines = new Renderer(note).section(table, [], mask(loaded.config) as TomlMap);
  return `${lines.join("\n").trim()}\n`;
}

/**
 * One key, or a whole section; secrets masked. Throws `not_found`, also for a key that has no value.
 */
export function getValue(loaded: LoadResult<object>, key: string): TomlValue {
  let value: TomlValue | undefined = mask(loaded.config);
  let path = "the configuration";
  for (const part of parseTomlKey(key) ?? [key]) {
    const names: string[] = isMap(value) || Array.isArray(value) ? Object.keys(value) : [];
    if (!names.includes(part)) {
      const hint = didYouMean(part, names);
      throw new HoldfastError("not_found", `There is no key ${part} in ${path}${hint}`);
    }
    value = (value as Readonly<Record<string, TomlValue>>)[part];
    path = key;
  }
  if (value !== undefined) return value;
  throw new HoldfastError("not_found", `The key ${key} is not set.`);
}

/** Plain data without secrets; what is not set is left out. */
function mask(value: unknown): TomlValue | undefined {
  if (value instanceof Secret) return String(value);
  if (Array.isArray(value)) return value.map(mask).filter((item) => item !== undefined);
  if (typeof value !== "object" || value === null) return value as TomlValue | undefined;
  const members = Object.entries(value).map(([name, member]) => [name, mask(member)] as const);
  return Object.fromEntries(members.filter(([, member]) => member !== undefined)) as TomlMap;
}

class Renderer {
  readonly #note: (path: Path) => string;

  constructor(note: (path: Path) => string) {
    this.#note = note;
  }

  section(declared: { readonly fields: Fields }, path: Path, values: TomlMap): string[] {
    const lines: string[] = [];
    const groups: string[] = [];
    for (const [name, inner] of Object.entries(declared.fields)) {
      const value = values[name];
      if (value === undefined) continue;
      const at = [...path, name];
      if (inner.kind === "key") lines.push(this.#line(at, value));
      else groups.push(...this.#group(inner, at, value));
    }
    return [...lines, ...groups];
  }

  #group(declared: Declaration, path: Path, value: TomlValue): string[] {
    const header = path.map(formatTomlKey).join(".");
    if (declared.kind === "tables") {
      if (!Array.isArray(value)) return [];
      return value.flatMap((row: TomlMap, i) => {
        return ["", `[[${header}]]`, ...this.section(declared, [...path, String(i)], row)];
      });
    }
    if (!isMap(value) || declared.kind === "key") return [];
    if (declared.kind === "free") return this.#free(path, value);
    if (declared.kind === "section")
      return ["", `[${header}]`, ...this.section(declared, path, value)];
    return Object.entries(value).flatMap(([name, inner]) =>
      this.#group({ ...declared, kind: "section" }, [...path, name], inner),
    );
  }

  #free(path: Path, value: TomlMap): string[] {
    return Object.entries(value).flatMap(([name, inner]) => {
      const at = [...path, name];
      if (!isMap(inner)) return [];
      const lines = Object.entries(inner).map(([key, v]) => this.#line([...at, key], v));
      return ["", `[${at.map(formatTomlKey).join(".")}]`, ...lines];
    });
  }

  #line(path: Path, value: TomlValue): string {
    return `${formatTomlKey(path.at(-1) ?? "")} = ${formatTomlValue(value)}${this.#note(path)}`;
  }
}

function isMap(value: TomlValue | undefined): value is TomlMap {
  return typeof value === "object" && !Array.isArray(value);
}
