/**
 * The whole contract with the authors of plugins (published as `holdfast/sdk`).
 *
 * A plugin is one value made by `definePlugin`: a name, commands and, where it needs them, `start`
 * and `stop`. It sees the agent only through the context that it is given, so the same plugin runs
 * inside the agent, in a process of its own, or in a test.
 *
 * Words: a *command* is `<plugin>.<verb>`, sent by a commander, and takes effect once. *Accepted*
 * means safe: acknowledged by the message service or synced to this device's disk.
 *
 * What holds for every plugin
 * - Types flow from the schemas to the handlers; parameters that do not fit never reach a handler.
 * - A handler's answer is JSON: finite numbers, no cycles, at most 24 levels deep. `undefined` is
 *   sent as null. The whole reply should stay under 4 KiB; larger ones may find no room.
 * - What a handler throws ends its command as `failed`: with its own code if it is a `PluginError`,
 *   else with `handler_failed`. It never harms the agent.
 */
import type { InputOf, OutputOf, Schema } from "./standard-schema.ts";

export type { InputOf, OutputOf, Schema, SchemaIssue, SchemaResult } from "./standard-schema.ts";

export type Json =
  | string
  | number
  | boolean
  | null
  | readonly Json[]
  | { readonly [key: string]: Json };

/** What a verb without a `params` schema is given; any parameter is refused for it. */
export type NoParams = Readonly<Record<string, never>>;

/** What any part of a plugin may use. */
export interface PluginContext<Config = unknown> {
  /** `[plugins.config.NAME]`, checked against the plugin's `config` schema. */
  readonly config: Config;
  readonly log: PluginLog;
  /** Aborts when the work must end: the plugin stops, or the command is over its deadline. */
  readonly signal: AbortSignal;
  readonly clock: PluginClock;
  readonly device: DeviceInfo;
  readonly alarm: PluginAlarms;
  /**
   * Sends `payload` to `<topics.up>/<topic>`. Resolves once the message is accepted. Bytes and text
   * are sent as they are, other values as JSON; at most 65,536 bytes.
   * Throws a `PluginError`: `topic_invalid`, `topic_too_long`, `lane_unknown`, `lane_full`,
   * `payload_too_large`, `message_invalid`, `store_not_writable`.
   */
  publish(topic: string, payload: Payload, options?: PublishOptions): Promise<Published>;
}

/** What a handler may use besides. */
export interface CommandContext<Config = unknown> extends PluginContext<Config> {
  readonly command: {
    readonly id: string;
    /** `<plugin>.<verb>` */
    readonly name: string;
    /** The client id of the sender. */
    readonly from: string;
  };
}

export type Payload = string | Uint8Array | { readonly [key: string]: Json } | readonly Json[];

export interface PublishOptions {
  /** Default `telemetry`. */
  readonly lane?: string;
  /** In a lane that keeps only the latest message of a key: that key. */
  readonly key?: string;
  /** Milliseconds after which nobody wants it any more; 0 is never. Default: the lane's. */
  readonly ttlMs?: number;
}

export interface Published {
  readonly id: string;
  /** What made it safe first. */
  readonly safe: "broker" | "disk";
}

/** An event name and fields; no secrets, and nothing per message above debug. */
export interface PluginLog {
  debug(event: string, fields?: PluginLogFields): void;
  info(event: string, fields?: PluginLogFields): void;
  warn(event: string, fields?: PluginLogFields): void;
  error(event: string, fields?: PluginLogFields): void;
}
export type PluginLogFields = Readonly<Record<string, string | number | boolean | null>>;

/** Time as the agent has it; a test sets it. */
export interface PluginClock {
  /** Unix milliseconds; may jump. */
  now(): number;
  /** Milliseconds since an arbitrary point; never goes back. */
  monotonicMs(): number;
  /** Resolves after `ms`, or at once when `signal` (default: the context's) aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export interface DeviceInfo {
  readonly clientId: string;
  readonly agentVersion: string;
  /** Random since the agent's start; a commander quotes it to prove that a command is fresh. */
  readonly nonce: string;
}

/** Alarms are remembered over restarts and sent when they change, not each time they are raised. */
export interface PluginAlarms {
  /** `name`: 1 to 64 of `a-z0-9._-`; the agent puts the plugin's name before it. */
  raise(
    name: string,
    about: { readonly severity: "info" | "warning" | "critical"; readonly cause: string },
  ): void;
  clear(name: string): void;
}

/** A failure that the commander should be able to tell from others by its code. */
export class PluginError extends Error {
  override readonly name = "PluginError";
  /** 1 to 64 of `a-z0-9_`, starting with a letter. */
  readonly code: string;
  readonly details: { readonly [key: string]: Json };

  constructor(code: string, message: string, details: { readonly [key: string]: Json } = {}) {
    super(message);
    this.code = code;
    this.details = details;
  }
}

type Awaitable<T> = T | Promise<T>;
type ParamsOf<P> = P extends Schema ? OutputOf<P> : NoParams;
type AnswerOf<R> = R extends Schema ? InputOf<R> : unknown;

interface VerbOptions {
  /** One line for `holdfast send DEVICE help`; 1 to 200 characters. */
  readonly summary: string;
  /** True if running it twice does no more than running it once. */
  readonly idempotent?: boolean;
  /**
   * True if it changes nothing at all; goes with `idempotent`. Such a verb is also answered while the
   * disk takes no writes, without a record, so that a device in trouble can be asked what is wrong.
   */
  readonly readsOnly?: boolean;
  /** Milliseconds until the command ends as `deadline_exceeded`; 1 to 86,400,000. */
  readonly deadlineMs?: number;
  /** How many of this verb may run at once; 1 (the default) to 64. */
  readonly concurrency?: number;
}

interface VerbWithParams<P, Config> extends VerbOptions {
  /** Default: the verb takes no parameters. */
  readonly params?: P;
  handler(params: ParamsOf<P>, context: CommandContext<Config>): unknown;
}

interface VerbWithResult<R> {
  /** What the handler answers with; checked before it is sent. */
  readonly result?: R;
  handler(params: never, context: never): Awaitable<AnswerOf<R>>;
}

/** A verb as the runtime sees it, when the types have done their work. */
export interface Verb extends VerbOptions {
  readonly params?: Schema;
  readonly result?: Schema;
  handler(params: unknown, context: CommandContext): unknown;
}

/** A plugin as the runtime sees it. */
export interface Plugin {
  readonly name: string;
  readonly version: string;
  readonly config?: Schema;
  readonly commands: Readonly<Record<string, Verb>>;
  start?(context: PluginContext): Awaitable<void>;
  stop?(context: PluginContext): Awaitable<void>;
}

export interface PluginDefinition<P, R, C> {
  /** 1 to 32 of `a-z0-9-`, starting with a letter; `agent` is taken. */
  readonly name: string;
  /** Semantic version of the plugin. */
  readonly version: string;
  /** Schema of `[plugins.config.NAME]`. A configuration that does not fit keeps it from starting. */
  readonly config?: C;
  /** Verb to command; a verb is 1 to 32 of `a-z0-9_`, starting with a letter. */
  readonly commands: { readonly [V in keyof P]: VerbWithParams<P[V], ParamsOrConfig<C>> } & {
    readonly [V in keyof R]: VerbWithResult<R[V]>;
  };
  /** Resolves when commands may come, within 10 s; what goes on after that ends with the signal. */
  start?(context: PluginContext<ParamsOrConfig<C>>): Awaitable<void>;
  /** Called once, after the signal aborted; to let go of what the signal did not end. */
  stop?(context: PluginContext<ParamsOrConfig<C>>): Awaitable<void>;
}
type ParamsOrConfig<C> = C extends Schema ? OutputOf<C> : unknown;

const namePattern = /^[a-z][a-z0-9-]{0,31}$/;
const verbPattern = /^[a-z][a-z0-9_]{0,31}$/;
const versionPattern = /^\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]{1,64})?$/;
const longestDeadlineMs = 86_400_000;
const mostAtOnce = 64;

/** Makes a plugin of its definition. Throws `PluginError` `plugin_invalid`, naming what is wrong. */
export function definePlugin<P, R, C = undefined>(definition: PluginDefinition<P, R, C>): Plugin {
  // The types ended at the call; what follows is for plugins that no compiler has seen.
  const plugin = definition as unknown as Plugin;
  demand(isObject(plugin), "definePlugin is given an object");
  const { name, version, commands, config } = plugin;
  demand(matches(name, namePattern), "name is 1 to 32 of a-z 0-9 -, starting with a letter");
  demand(matches(version, versionPattern), `${name}: version is a semantic version like 1.0.0`);
  demand(config === undefined || isSchema(config), `${name}: config is a Standard Schema`);
  demand(isObject(commands), `${name}: commands is an object of verbs`);
  for (const [verb, command] of Object.entries(commands)) checkVerb(name, verb, command);
  for (const hook of ["start", "stop"] as const) {
    demand(
      plugin[hook] === undefined || typeof plugin[hook] === "function",
      `${name}: ${hook} is a function`,
    );
  }
  return plugin;
}

function checkVerb(plugin: string, verb: string, command: Verb): void {
  const name = `${plugin}.${verb}`;
  demand(matches(verb, verbPattern), `${name}: a verb is 1 to 32 of a-z 0-9 _`);
  demand(isObject(command), `${name}: a command is an object`);
  const { summary, params, result, deadlineMs, concurrency } = command;
  demand(
    typeof summary === "string" && summary.length >= 1 && summary.length <= 200,
    `${name}: summary is one line of 1 to 200 characters`,
  );
  demand(typeof command.handler === "function", `${name}: handler is a function`);
  demand(
    command.readsOnly !== true || command.idempotent === true,
    `${name}: readsOnly goes with idempotent`,
  );
  demand(params === undefined || isSchema(params), `${name}: params is a Standard Schema`);
  demand(result === undefined || isSchema(result), `${name}: result is a Standard Schema`);
  demand(
    isCount(deadlineMs, longestDeadlineMs),
    `${name}: deadlineMs is 1 to ${longestDeadlineMs} milliseconds`,
  );
  demand(isCount(concurrency, mostAtOnce), `${name}: concurrency is 1 to ${mostAtOnce}`);
}

function demand(holds: boolean, rule: string): asserts holds {
  if (!holds) throw new PluginError("plugin_invalid", `The plugin breaks a rule: ${rule}.`);
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

function matches(value: unknown, pattern: RegExp): boolean {
  return typeof value === "string" && pattern.test(value);
}

function isCount(value: unknown, most: number): boolean {
  if (value === undefined) return true;
  return Number.isInteger(value) && Number(value) >= 1 && Number(value) <= most;
}

/** Some libraries' schemas are functions (arktype), so both kinds pass. */
function isSchema(value: unknown): boolean {
  if (!isObject(value) && typeof value !== "function") return false;
  const standard: unknown = (value as Partial<Schema>)["~standard"];
  return isObject(standard) && "validate" in standard && typeof standard.validate === "function";
}
