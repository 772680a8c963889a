/**
 * How a program declares its configuration: one table of keys, out of which come the type of the
 * loaded object, the defaults, the checks, the environment names and the documentation.
 *
 *     const table = defineTable({
 *       listen: section("Where it listens.", {
 *         host: text({ default: "127.0.0.1", doc: "Address." }),
 *         mqtt: integer({ default: 1883, min: 0, max: 65_535, doc: "Port; 0 is none." }),
 *       }),
 *       accounts: tables("Who may use it.", { access_key: text({ required: true, doc: "..." }) }),
 *     });
 *     type Config = Loaded<typeof table>;   // { listen: { host: string; mqtt: number }; ... }
 *
 * The loaded object has the names that the file has, so that one search finds a key everywhere.
 */
import type { Secret } from "./secret.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export type KeyType = "text" | "path" | "integer" | "number" | "boolean" | "list" | "secret";

/** One key. `T` includes undefined for a key that may be absent. */
export interface Key<T> {
  readonly kind: "key";
  readonly type: KeyType;
  /** One or two plain sentences for the operator. */
  readonly doc: string;
  readonly required: boolean;
  readonly default: T | ((environment: Environment) => T);
  /** How the documentation names a default that depends on the machine. */
  readonly defaultDoc?: string;
  /** What the documentation shows where there is no default. */
  readonly example?: string | readonly string[];
  /** True: the documentation shows the example in place of the default. */
  readonly showExample?: boolean;
  readonly unit?: string;
  readonly min?: number;
  readonly max?: number;
  readonly oneOf?: readonly string[];
  /** True: a running program takes a change of it over without a restart. */
  readonly reloadable: boolean;
  /** Undefined when the value is right, else what was expected. */
  check?(value: unknown): string | undefined;
}

/** Fixed keys under one name. */
export interface Section<F extends Fields = Fields> {
  readonly kind: "section";
  readonly doc: string;
  readonly fields: F;
}

/** Sections whose names the operator chooses; `known` ones always exist, with their defaults. */
export interface Named<F extends Fields = Fields, N extends string = string> {
  readonly kind: "named";
  readonly doc: string;
  readonly fields: F;
  readonly known: { readonly [name in N]: Known };
}

export interface Known {
  readonly doc: string;
  readonly defaults: { readonly [field: string]: string | number | boolean };
}

/** `[[name]]`: a list of tables; a later source replaces the whole list. */
export interface Tables<F extends Fields = Fields> {
  readonly kind: "tables";
  readonly doc: string;
  readonly fields: F;
}

/** Tables by name whose keys somebody else understands. */
export interface Free {
  readonly kind: "free";
  readonly doc: string;
}

export type Declaration = Key<unknown> | Section | Named | Tables | Free;
export interface Fields {
  readonly [name: string]: Declaration;
}
export type Table<F extends Fields = Fields> = Section<F>;

export type FreeValue = string | number | boolean | readonly FreeValue[] | FreeTable;
export interface FreeTable {
  readonly [key: string]: FreeValue;
}

/** The type of what is loaded, out of the declaration. */
export type Loaded<D> =
  D extends Key<infer T>
    ? T
    : D extends Section<infer F>
      ? LoadedFields<F>
      : D extends Named<infer F, infer N>
        ? LoadedNames<LoadedFields<F>, N>
        : D extends Tables<infer F>
          ? readonly LoadedFields<F>[]
          : D extends Free
            ? Readonly<Record<string, FreeTable>>
            : never;
type LoadedFields<F extends Fields> = { readonly [K in keyof F]: Loaded<F[K]> };
type LoadedNames<T, N extends string> = { readonly [name: string]: T } & {
  readonly [name in N]: T;
};

export function defineTable<const F extends Fields>(fields: F, doc = ""): Table<F> {
  return section(doc, fields);
}

export function section<const F extends Fields>(doc: string, fields: F): Section<F> {
  return { kind: "section", doc, fields };
}

export function named<const F extends Fields, const N extends string = never>(
  doc: string,
  fields: F,
  known: { readonly [name in N]: Known } = {} as { readonly [name in N]: Known },
): Named<F, N> {
  return { kind: "named", doc, fields, known };
}

export function tables<const F extends Fields>(doc: string, fields: F): Tables<F> {
  return { kind: "tables", doc, fields };
}

export function free(doc: string): Free {
  return { kind: "free", doc };
}

interface Common<T> {
  readonly doc: string;
  readonly unit?: string;
  readonly reloadable?: boolean;
  readonly defaultDoc?: string;
  readonly example?: string | readonly string[];
  readonly showExample?: boolean;
  /** Undefined when the value is right, else what was expected: "at least one endpoint". */
  check?(value: T): string | undefined;
}
type With<T> = { readonly default: T | ((environment: Environment) => T) };
type Must = { readonly required: true };
interface Range {
  readonly min?: number;
  readonly max?: number;
}

/** Any string. */
export function text(options: Common<string> & (With<string> | Must)): Key<string> {
  return key<string>("text", options);
}

/**
 * A file or folder. `~/` is the home folder; a relative path starts at the folder of the file that
 * says it, and at the working folder everywhere else. Empty stays empty: none.
 */
export function path(options: Common<string> & (With<string> | Must)): Key<string> {
  return key<string>("path", options);
}

export function integer(options: Common<number> & Range & (With<number> | Must)): Key<number> {
  return key<number>("integer", options);
}

/** A number with or without a fraction. */
export function number(options: Common<number> & Range & (With<number> | Must)): Key<number> {
  return key<number>("number", options);
}

export function flag(options: Common<boolean> & With<boolean>): Key<boolean> {
  return key<boolean>("boolean", options);
}

/** One word of a closed list. */
export function choice<const T extends string>(
  oneOf: readonly T[],
  options: Common<T> & With<NoInfer<T>>,
): Key<T> {
  return { ...key<T>("text", options), oneOf };
}

/** A list of strings. */
export function list(
  options: Common<readonly string[]> & With<readonly string[]>,
): Key<readonly string[]> {
  return key<readonly string[]>("list", options);
}

/**
 * A secret. Beside KEY the loader takes KEY_file, and a file named as the whole dotted key in
 * systemd's credentials folder.
 */
export function secret(options: Common<Secret>): Key<Secret | undefined> {
  return key<Secret | undefined>("secret", { ...options, default: undefined });
}

function key<T>(type: KeyType, options: Common<NonNullable<T>> & Range & (With<T> | Must)): Key<T> {
  const required = "required" in options;
  return {
    reloadable: false,
    ...options,
    kind: "key",
    type,
    required,
    // A required key is never absent from a loaded object, so nobody sees this one.
    default: "default" in options ? options.default : (undefined as T),
  } as Key<T>;
}

export interface ListedKey {
  /** With `*` where the operator chooses a name or where a list is. */
  readonly path: readonly string[];
  readonly key: Key<unknown>;
}

/** Every key of a table, in the order of the declaration. */
export function listKeys(declaration: Declaration, at: readonly string[] = []): ListedKey[] {
  if (declaration.kind === "key") return [{ path: at, key: declaration }];
  if (declaration.kind === "free") return [];
  const inner = declaration.kind === "section" ? at : [...at, "*"];
  return Object.entries(declaration.fields).flatMap(([name, d]) => listKeys(d, [...inner, name]));
}

/** The variable of a key: `HOLDFAST_SERVICE__RECONNECT__MIN_MS`. */
export function environmentName(prefix: string, keyPath: readonly string[]): string {
  return prefix + keyPath.map((part) => part.toUpperCase().replaceAll("-", "_")).join("__");
}

export function defaultOf(declared: Key<unknown>, environment: Environment): unknown {
  const value = declared.default;
  return typeof value === "function" ? value(environment) : value;
}
