import type { Command, CommandResult } from "../commands/commands.ts";
import type { Clock } from "../core/clock.ts";
import { describeError, HoldfastError } from "../core/errors.ts";
import { LinkedAbort } from "../core/linked-abort.ts";
import type { CommandContext, Plugin, PluginContext, Verb } from "../sdk/sdk.ts";
import { checkSchema, jsonSchemaOf } from "./check-schema.ts";
import type { PluginInfo, PluginRunner, VerbInfo } from "./plugin-runner.ts";
import { abortedBy, failed, failedBy, rejected } from "./results.ts";
import { type Slot, Slots } from "./slots.ts";
import { toJson } from "./to-json.ts";

export interface InlineDeps {
  readonly clock: Clock;
  /** Makes the plugin's context around its checked configuration. */
  readonly context: (config: unknown, signal: AbortSignal) => PluginContext;
}

/**
 * Runs a built-in plugin inside the agent. There is no wall here: a handler that blocks the event
 * loop blocks the agent. What it does contain: wrong parameters, every kind of throw, answers that
 * are not JSON, and handlers that ignore their signal (their call ends, their slot stays taken).
 */
export class InlineRunner implements PluginRunner {
  readonly isolation = "inline";
  readonly #plugin: Plugin;
  readonly #rawConfig: unknown;
  readonly #deps: InlineDeps;
  readonly #slots = new Map<string, Slots>();
  /** Aborts when the plugin stops. */
  readonly #life = new AbortController();
  readonly #exit = Promise.withResolvers<{ reason: string }>();
  #config: unknown;

  constructor(options: { plugin: Plugin; config: unknown }, deps: InlineDeps) {
    this.#plugin = options.plugin;
    this.#rawConfig = options.config;
    this.#deps = deps;
  }

  get exited(): Promise<{ readonly reason: string }> {
    return this.#exit.promise;
  }

  async start(signal: AbortSignal): Promise<PluginInfo> {
    this.#config = await this.#checkConfig();
    const end = AbortSignal.any([this.#life.signal, signal]);
    try {
      await this.#plugin.start?.(this.#deps.context(this.#config, end));
    } catch (cause) {
      this.#life.abort(); // Whatever it had begun ends here.
      this.#exit.resolve({ reason: "did not start" });
      throw new HoldfastError("plugin_failed", `It did not start: ${describeError(cause)}`, {
        cause,
      });
    }
    const verbs = Object.entries(this.#plugin.commands).map(([verb, it]) => describe(verb, it));
    for (const { verb, concurrency } of verbs) this.#slots.set(verb, new Slots(concurrency));
    return { name: this.#plugin.name, version: this.#plugin.version, verbs };
  }

  async call(command: Command, signal: AbortSignal): Promise<CommandResult> {
    const verbName = command.name.slice(this.#plugin.name.length + 1);
    const slots = this.#slots.get(verbName); // A map, so that `constructor` is no verb.
    const verb = slots && this.#plugin.commands[verbName];
    if (!verb) return rejected("command_unknown", `There is no command ${command.name}.`);

    const life = new LinkedAbort(signal, this.#life.signal);
    this.#limit(life, command.name, verb.deadlineMs);
    try {
      const slot = await slots.acquire(life.signal);
      if (slot === "aborted") return abortedBy(life.signal);
      if (slot === "stuck") return stuck(command.name);
      return await this.#occupy(slot, verb, command, life);
    } finally {
      life.release();
    }
  }

  /** Calls the plugin's `stop` once; what it does after the deadline is no longer waited for. */
  async stop(deadline: AbortSignal): Promise<void> {
    if (this.#life.signal.aborted) return;
    this.#life.abort(new HoldfastError("stopped", "The plugin was stopped."));
    try {
      const stopping = this.#plugin.stop?.(this.#deps.context(this.#config, deadline));
      await Promise.race([stopping, new LinkedAbort(deadline).aborted]);
    } finally {
      this.#exit.resolve({ reason: "stopped" });
    }
  }

  /** Runs the work in its slot, for as long as the caller's signal allows the caller to wait. */
  async #occupy(
    slot: Slot,
    verb: Verb,
    command: Command,
    life: LinkedAbort,
  ): Promise<CommandResult> {
    const work = this.#run(verb, command, life.signal).finally(() => slot.release());
    const first = await Promise.race([work, life.aborted]);
    if (first) return first;
    slot.abandon();
    return abortedBy(life.signal);
  }

  async #run(verb: Verb, command: Command, end: AbortSignal): Promise<CommandResult> {
    try {
      const checked = await checkParams(verb, command);
      if ("status" in checked) return checked;
      const { id, name, from } = command;
      const context: CommandContext = {
        ...this.#deps.context(this.#config, end),
        command: { id, name, from },
      };
      return await answer(verb, name, await verb.handler(checked.params, context));
    } catch (thrown) {
      return failedBy(thrown);
    }
  }

  /** Aborts the call when its verb's own time is over; the timer ends with the call. */
  #limit(life: LinkedAbort, name: string, ms: number | undefined): void {
    if (ms === undefined) return;
    void this.#deps.clock.sleep(ms, life.over).then(() => {
      if (life.over.aborted) return;
      const reason = `${name} took longer than the ${ms} ms that its plugin allows.`;
      life.abort(new HoldfastError("deadline_exceeded", reason));
    });
  }

  async #checkConfig(): Promise<unknown> {
    if (!this.#plugin.config) return this.#rawConfig ?? {};
    const { name } = this.#plugin;
    const checked = await checkSchema(this.#plugin.config, this.#rawConfig ?? {});
    if (checked.ok) return checked.value;
    throw new HoldfastError(
      "config_invalid",
      `[plugins.config.${name}] does not fit the plugin: ${checked.problem}`,
    );
  }
}

async function checkParams(
  verb: Verb,
  command: Command,
): Promise<CommandResult | { readonly params: unknown }> {
  if (!verb.params) {
    const extra = Object.keys(command.params)[0];
    if (extra === undefined) return { params: {} };
    const message = `${command.name} takes no parameters, and it was given ${extra.slice(0, 64)}.`;
    return rejected("params_invalid", message, { field: extra.slice(0, 64) });
  }
  const checked = await checkSchema(verb.params, command.params);
  if (checked.ok) return { params: checked.value };
  return rejected(
    "params_invalid",
    `The parameters of ${command.name} do not fit: ${checked.problem}`,
    {
      field: checked.field,
    },
  );
}

async function answer(verb: Verb, name: string, given: unknown): Promise<CommandResult> {
  let value = given;
  if (verb.result) {
    const checked = await checkSchema(verb.result, given);
    if (!checked.ok) {
      return failed(
        "handler_failed",
        `The answer of ${name} is not as declared: ${checked.problem}`,
      );
    }
    value = checked.value;
  }
  const json = toJson(value);
  if (json.ok) return { status: "succeeded", result: json.value };
  return failed("handler_failed", `The answer of ${name} is not JSON: ${json.problem}.`);
}

function describe(verb: string, it: Verb): VerbInfo {
  const params = jsonSchemaOf(it.params);
  return {
    verb,
    summary: it.summary,
    idempotent: it.idempotent ?? false,
    readsOnly: it.readsOnly ?? false,
    concurrency: it.concurrency ?? 1,
    ...(it.deadlineMs !== undefined && { deadlineMs: it.deadlineMs }),
    ...(params && { params }),
  };
}

function stuck(name: string): CommandResult {
  return failed("plugin_failed", `Earlier calls of ${name} were told to end and still run.`);
}
