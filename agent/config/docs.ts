import {
  type Declaration,
  environmentName,
  type Fields,
  type Key,
  type Known,
  type Table,
} from "./table.ts";
import { formatTomlValue } from "./toml.ts";

type Path = readonly string[];
type Defaults = Known["defaults"];

const WIDTH = 98;
/** Stands in a path for the row of a list of tables, which no variable can name. */
const ROW = "";

/**
 * Every key of a table as a commented TOML file that loads as it is: keys with a default are there
 * with it, what must be given with an example; what is only possible is commented out.
 */
export function renderDocs<F extends Fields>(
  table: Table<F>,
  { environmentPrefix }: { readonly environmentPrefix?: string } = {},
): string {
  return `${new Writer(environmentPrefix).fields(table.fields, []).join("\n").trim()}\n`;
}

class Writer {
  readonly #prefix: string | undefined;

  constructor(prefix: string | undefined) {
    this.#prefix = prefix;
  }

  /** Keys come before sections, because in TOML a key belongs to the last header above it. */
  fields(fields: Fields, path: Path, defaults: Defaults = {}, isSample = false): string[] {
    const keys: string[] = [];
    const groups: string[] = [];
    for (const [name, declared] of Object.entries(fields)) {
      const at = [...path, name];
      if (declared.kind !== "key") groups.push(...this.#group(declared, at));
      else keys.push(...this.#key(declared, at, defaults[name], isSample));
    }
    return [...keys, ...groups];
  }

  #group(declared: Exclude<Declaration, Key<unknown>>, path: Path): string[] {
    const header = path.join(".");
    const doc = ["", ...comment(declared.doc)];
    switch (declared.kind) {
      case "section":
        return [...doc, `[${header}]`, ...this.fields(declared.fields, path)];
      case "free":
        return [...doc, `# [${header}.NAME]`];
      case "tables":
        return [
          ...doc,
          `# [[${header}]]`,
          ...this.fields(declared.fields, [...path, ROW], {}, true),
        ];
      case "named": {
        const known = Object.entries(declared.known).flatMap(([name, { doc, defaults }]) => {
          const at = [...path, name];
          const lines = this.fields(declared.fields, at, defaults);
          return ["", ...comment(doc), `[${at.join(".")}]`, ...lines];
        });
        if (known.length > 0) return [...doc, ...known];
        const sample = this.fields(declared.fields, [...path, "NAME"], {}, true);
        return [...doc, `# [${header}.NAME]`, ...sample];
      }
    }
  }

  #key(key: Key<unknown>, path: Path, preset: Defaults[string] | undefined, isSample: boolean) {
    const wantsExample =
      isSample || key.required || key.showExample || key.defaultDoc !== undefined;
    const example = wantsExample ? key.example : undefined;
    const value = preset ?? example ?? fixedDefault(key);
    const isGiven = !isSample && key.defaultDoc === undefined && value !== undefined;
    const line = `${path.at(-1)} = ${formatTomlValue(value ?? key.example ?? "...")}`;
    return [...comment(this.#describe(key, path)), isGiven ? line : `# ${line}`];
  }

  #describe(key: Key<unknown>, path: Path): string {
    const facts = [
      key.unit === undefined ? undefined : `Unit: ${key.unit}.`,
      rangeOf(key),
      key.oneOf && `One of ${key.oneOf.join(", ")}.`,
      key.defaultDoc === undefined ? undefined : `Default: ${key.defaultDoc}.`,
      key.type === "secret" ? `Or ${path.at(-1)}_file, a file with it.` : undefined,
      key.required ? "Must be given." : undefined,
      key.reloadable ? "A reload takes it over." : undefined,
      key.example !== undefined && key.default === "" && key.defaultDoc === undefined
        ? `Example: ${formatTomlValue(key.example)}.`
        : undefined,
      this.#prefix === undefined || path.includes(ROW)
        ? undefined
        : `Variable: ${environmentName(this.#prefix, path)}.`,
    ];
    return [key.doc, ...facts.filter((fact) => fact !== undefined)].join(" ");
  }
}

function fixedDefault(key: Key<unknown>): Defaults[string] | readonly string[] | undefined {
  if (key.required || typeof key.default === "function") return undefined;
  return key.default as Defaults[string] | undefined;
}

function rangeOf({ min, max }: Key<unknown>): string | undefined {
  if (min !== undefined && max !== undefined) return `From ${min} to ${max}.`;
  if (min !== undefined) return `At least ${min}.`;
  return max === undefined ? undefined : `At most ${max}.`;
}

/** Lines of at most WIDTH characters that start with `# `. */
function comment(text: string): string[] {
  const lines: string[] = [];
  let line = "#";
  for (const word of text.split(" ")) {
    if (line.length + 1 + word.length > WIDTH && line !== "#") {
      lines.push(line);
      line = "#";
    }
    line += ` ${word}`;
  }
  return text === "" ? [] : [...lines, line];
}
