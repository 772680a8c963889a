/**
 * What a subcommand is. A declaration gives the parser, the help and the types of what `run` gets;
 * `cli.ts` turns it into a program, so that no subcommand knows which library reads the words.
 *
 *     export const wave = defineSubcommand({
 *       name: "wave",
 *       summary: "Wave at a device.",
 *       examples: [{ command: "wave gw-01 --times 3", doc: "three times" }],
 *       arguments: { device: argument("DEVICE", "its client id") },
 *       options: { times: option({ value: "N", doc: "how often", parse: integer({ min: 1 }), default: 1 }) },
 *       run: async ({ arguments: { device }, options: { times } }, context) => {
 *         context.stdout.write(`${"wave ".repeat(times)}${device}\n`);
 *         return exit.done;
 *       },
 *     });
 *
 * Results go to stdout, everything else to stderr. `run` returns an exit status or throws: a
 * HoldfastError is printed as `holdfast: CODE: message` and becomes the status of `exitStatus`.
 */
import type { Clock } from "../core/clock.ts";
import { HoldfastError } from "../core/errors.ts";
import type { Random } from "../core/random.ts";

/** Exit statuses, the same for every subcommand. */
export const exit = { done: 0, failed: 1, usage: 2, unreachable: 3 } as const;
export type ExitStatus = (typeof exit)[keyof typeof exit];

/** What a program has of the world around it. */
export interface CliContext {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly stdin: Input;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** True when stdout is a terminal. */
  readonly isTty: boolean;
  /** Width of the terminal, 80 where there is none. */
  readonly columns: number;
  /** Aborts at the first SIGINT or SIGTERM; a second SIGINT ends the process at once. */
  readonly signal: AbortSignal;
  /** Calls `listener` at each SIGHUP until the returned function is called. */
  onHangup(listener: () => void): () => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly version: string;
}

export interface Output {
  write(data: string | Uint8Array): void;
  /** Resolves when all that was written has been taken; for those who write much. */
  drained(): Promise<void>;
}

export interface Input extends AsyncIterable<Uint8Array> {
  readonly isTty: boolean;
}

/** Turns a word of the command line into a value; throws `usage` with what was expected. */
export type Parser<T> = (text: string) => T;

/** One option. `V` is what `run` gets for it. The key in the table gives the flag: `maxAge` is `--max-age`. */
export interface OptionSpec<V> {
  readonly kind: "flag" | "value" | "repeated";
  /** The name of the value in the help: `SECONDS`. */
  readonly value: string;
  readonly doc: string;
  readonly short?: string;
  readonly parse: Parser<unknown>;
  readonly default: V;
  /** Not in the help. */
  readonly hidden?: boolean;
}

/** One positional argument; the order in the table is the order on the line. */
export interface ArgumentSpec<V> {
  readonly kind: "required" | "optional" | "rest" | "any";
  readonly name: string;
  readonly doc: string;
  readonly parse: Parser<unknown>;
  /** Only for the types: what `run` gets. */
  readonly absent: V | undefined;
}

export interface Example {
  /** Without the leading `holdfast`. */
  readonly command: string;
  readonly doc: string;
}

type Options = Readonly<Record<string, OptionSpec<unknown>>>;
type Arguments = Readonly<Record<string, ArgumentSpec<unknown>>>;

export interface SubcommandInput<A extends Arguments = Arguments, O extends Options = Options> {
  readonly arguments: { readonly [K in keyof A]: A[K] extends ArgumentSpec<infer V> ? V : never };
  readonly options: { readonly [K in keyof O]: O[K] extends OptionSpec<infer V> ? V : never };
}

interface Described {
  readonly name: string;
  /** One line, a sentence in the imperative: `Show what the agent is doing.` */
  readonly summary: string;
  /** More for `--help`: what it does, what it reads and writes, when it fails. */
  readonly help?: string;
  readonly examples?: readonly Example[];
}

export interface Subcommand extends Described {
  readonly arguments?: Arguments;
  readonly options?: Options;
  readonly subcommands?: readonly Subcommand[];
  /** A method and not a property, so that a declaration with narrower input fits this type. */
  run?(input: SubcommandInput, context: CliContext): Promise<ExitStatus>;
}

/** How the program knows a subcommand before its file is loaded. */
export interface LazySubcommand {
  readonly name: string;
  readonly summary: string;
  load(): Promise<Subcommand>;
}

/** A subcommand that runs, with types from its tables. */
export function defineSubcommand<
  const A extends Arguments = Record<never, never>,
  const O extends Options = Record<never, never>,
>(
  declaration: Described & {
    readonly arguments?: A;
    readonly options?: O;
    /** Names below one that also runs by itself. */
    readonly subcommands?: readonly Subcommand[];
    run(input: SubcommandInput<A, O>, context: CliContext): Promise<ExitStatus>;
  },
): Subcommand {
  return declaration;
}

/** A name with subcommands below it: `outbox list`. */
export function defineGroup(
  declaration: Described & { readonly subcommands: readonly Subcommand[] },
): Subcommand {
  return declaration;
}

/** `--json`: true when given. A key that starts with `no` is the flag `--no-...`. */
export function flag(doc: string, extra: { short?: string; hidden?: boolean } = {}) {
  const spec: OptionSpec<boolean> = {
    kind: "flag",
    value: "",
    doc,
    parse: () => true,
    default: false,
    ...extra,
  };
  return spec;
}

interface OptionInit<T> {
  readonly value: string;
  readonly doc: string;
  readonly parse: Parser<T>;
  readonly short?: string;
  readonly hidden?: boolean;
}

/** `--timeout S`: undefined when not given, unless it has a default. */
export function option<T>(init: OptionInit<T> & { readonly default: T }): OptionSpec<T>;
export function option<T>(init: OptionInit<T>): OptionSpec<T | undefined>;
export function option<T>(init: OptionInit<T> & { readonly default?: T }) {
  const spec: OptionSpec<T | undefined> = { ...init, kind: "value", default: init.default };
  return spec;
}

/** `--set A --set B`: all of them in order, none is an empty list. */
export function repeated<T>(init: OptionInit<T>): OptionSpec<readonly T[]> {
  return { ...init, kind: "repeated", default: [] };
}

export function argument(name: string, doc: string): ArgumentSpec<string>;
export function argument<T>(name: string, doc: string, parse: Parser<T>): ArgumentSpec<T>;
export function argument(name: string, doc: string, parse: Parser<unknown> = text) {
  const spec: ArgumentSpec<unknown> = { kind: "required", name, doc, parse, absent: undefined };
  return spec;
}

export function optionalArgument(name: string, doc: string): ArgumentSpec<string | undefined>;
export function optionalArgument<T>(
  name: string,
  doc: string,
  parse: Parser<T>,
): ArgumentSpec<T | undefined>;
export function optionalArgument(name: string, doc: string, parse: Parser<unknown> = text) {
  const spec: ArgumentSpec<unknown> = { kind: "optional", name, doc, parse, absent: undefined };
  return spec;
}

/** One or more words at the end of the line. */
export function restArguments(name: string, doc: string): ArgumentSpec<readonly string[]> {
  return { kind: "rest", name, doc, parse: text, absent: undefined };
}

/** Any number of words at the end of the line, none included. */
export function optionalRestArguments(name: string, doc: string): ArgumentSpec<readonly string[]> {
  return { kind: "any", name, doc, parse: text, absent: [] };
}

export const text: Parser<string> = (given) => given;

/** A whole number within the bounds, both included. */
export function integer(bounds: { readonly min?: number; readonly max?: number } = {}) {
  return numberParser("a whole number", /^[+-]?\d{1,15}$/, bounds);
}

/** A number, fractions allowed: `--timeout 0.5`. */
export function decimal(bounds: { readonly min?: number; readonly max?: number } = {}) {
  return numberParser("a number", /^[+-]?(\d{1,15}(\.\d{1,9})?|\.\d{1,9})$/, bounds);
}

export function oneOf<const T extends string>(allowed: readonly T[]): Parser<T> {
  return (given) => {
    const found = allowed.find((value) => value === given);
    if (found === undefined) throw expected(`one of ${allowed.join(", ")}`, given);
    return found;
  };
}

function numberParser(
  kind: string,
  form: RegExp,
  { min = -Infinity, max = Infinity }: { readonly min?: number; readonly max?: number },
): Parser<number> {
  const range =
    Number.isFinite(min) && Number.isFinite(max)
      ? ` from ${min} to ${max}`
      : Number.isFinite(min)
        ? ` of at least ${min}`
        : Number.isFinite(max)
          ? ` of at most ${max}`
          : "";
  return (given) => {
    const value = form.test(given) ? Number(given) : Number.NaN;
    if (!(value >= min && value <= max)) throw expected(`${kind}${range}`, given);
    return value;
  };
}

/** The error of a parser: says what was expected and what came. */
export function expected(what: string, given: string): HoldfastError {
  return new HoldfastError("usage", `expected ${what}, got ${JSON.stringify(given)}`);
}
