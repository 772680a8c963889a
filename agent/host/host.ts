/**
 * Runs plugins and gives each command to the one that has it.
 *
 * Invariants
 * - `dispatch` never throws and ends soon after its signal aborts, whatever a plugin does.
 * - A plugin that cannot start is listed as `failed` with the reason, raises an alarm, and keeps
 *   none of the others from running.
 * - A handler sees only parameters that its schema accepted; a reply carries only JSON.
 *
 * How a call ends: no such plugin or verb `rejected`/`command_unknown`; parameters that do not fit
 * `rejected`/`params_invalid` with `details.field`; a throw `failed` with the code of a
 * `PluginError`, else `handler_failed`; an abort by the reason of the signal: `deadline_exceeded`
 * is `failed`, `interrupted` and `stopped` are `interrupted`, anything else is `cancelled`.
 *
 * Restarted: nothing here is durable. What ran when the process ended is the journal's to finish.
 */
import type { Command, CommandResult, Dispatcher } from "../commands/commands.ts";
import { type Clock, withDeadline } from "../core/clock.ts";
import type { Check, CheckResult, Component } from "../core/component.ts";
import { describeError, HoldfastError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { DeviceInfo, Plugin, PluginAlarms } from "../sdk/sdk.ts";
import { agentVerbs } from "./agent-verbs.ts";
import { InlineRunner } from "./inline-runner.ts";
import { type HostOutgoing, makeContext } from "./plugin-context.ts";
import type { Isolation, PluginInfo, PluginRunner, VerbInfo } from "./plugin-runner.ts";
import { failed, rejected } from "./results.ts";

export interface HostOptions {
  /** Names of the plugins that run. */
  readonly enabled: readonly string[];
  /** What comes with the agent and runs inline. */
  readonly builtins: readonly Plugin[];
  /** `[plugins.config.NAME]` by name. */
  readonly configs: Readonly<Record<string, unknown>>;
  /** `topics.up` */
  readonly up: string;
  readonly device: DeviceInfo;
  /** Milliseconds that a plugin's `start` may take; default 10,000. */
  readonly startTimeoutMs?: number;
}

export interface HostDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly outgoing?: HostOutgoing;
  readonly alarms?: HostAlarms;
}

export interface HostAlarms extends PluginAlarms {
  /** What is raised now, kept ones of earlier runs included. */
  list?(): readonly { readonly alarm: string }[];
}

/** starting -> running | failed; running -> failed | stopped; all -> stopped. */
export type PluginState = "starting" | "running" | "failed" | "stopped";

export interface PluginStatus {
  readonly name: string;
  /** Empty while nothing is known of it. */
  readonly version: string;
  readonly isolation: Isolation;
  readonly state: PluginState;
  readonly restarts: number;
  /** Why it is `failed`. */
  readonly reason?: string;
}

interface Hosted {
  readonly name: string;
  readonly version: string;
  readonly runner: PluginRunner | undefined;
  state: PluginState;
  restarts: number;
  info?: PluginInfo;
  reason?: string;
}

const agentName = "agent";
const startTimeoutMs = 10_000;
const longestReason = 300;

export class Host implements Dispatcher, Component {
  readonly name = "host";
  readonly #options: HostOptions;
  readonly #deps: HostDeps;
  readonly #log: Logger;
  readonly #hosted = new Map<string, Hosted>();
  #stopped = false;

  constructor(options: HostOptions, deps: HostDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#log = deps.log.child("host");
  }

  /** Resolves when every plugin runs or has failed; never rejects for a plugin's fault. */
  async start(signal: AbortSignal): Promise<void> {
    if (this.#hosted.size > 0 || this.#stopped) return;
    this.#host(
      agentName,
      agentVerbs(() => this.#running()),
    );
    for (const name of new Set(this.#options.enabled)) {
      const plugin = this.#options.builtins.find((builtin) => builtin.name === name);
      this.#host(name, name === agentName ? undefined : plugin);
    }
    this.#clearOrphans();
    await Promise.all([...this.#hosted.values()].map((hosted) => this.#startOne(hosted, signal)));
  }

  async stop(deadline: AbortSignal): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    const stopping = [...this.#hosted.values()].map(async (hosted) => {
      try {
        if (hosted.state !== "failed") await hosted.runner?.stop(deadline);
      } catch (error) {
        this.#log.warn("plugin did not stop cleanly", {
          plugin: hosted.name,
          error: describeError(error),
        });
      }
      hosted.state = "stopped";
    });
    await Promise.all(stopping);
  }

  async dispatch(command: Command, signal: AbortSignal): Promise<CommandResult> {
    const { plugin, verb } = splitName(command.name);
    const hosted = this.#hosted.get(plugin);
    if (!hosted) return rejected("command_unknown", `There is no plugin for ${command.name}.`);
    if (hosted.state !== "running" || !hosted.runner) {
      const why = hosted.reason === undefined ? "" : `: ${hosted.reason}`;
      return failed("plugin_failed", `The plugin ${plugin} is ${hosted.state}${why}`);
    }
    if (!this.#verb(plugin, verb)) {
      return rejected("command_unknown", `There is no command ${command.name}.`);
    }
    try {
      return await hosted.runner.call(command, signal);
    } catch (error) {
      // The runner's contract says never; a command must have its one result all the same.
      this.#log.error("runner broke its contract", { plugin, error: describeError(error) });
      return failed("plugin_failed", `The plugin ${plugin} could not be called.`);
    }
  }

  /** The plugins that are configured; the agent's own verbs are none. */
  list(): readonly PluginStatus[] {
    return [...this.#hosted.values()]
      .filter(({ name }) => name !== agentName)
      .map(({ name, version, state, restarts, reason, runner }) => ({
        name,
        version,
        isolation: runner?.isolation ?? "inline",
        state,
        restarts,
        ...(reason !== undefined && { reason }),
      }));
  }

  /** How many commands of this plugin may run at once: the most that one of its verbs allows. */
  concurrency(plugin: string): number {
    const verbs = this.#hosted.get(plugin)?.info?.verbs ?? [];
    return Math.max(1, ...verbs.map((verb) => verb.concurrency));
  }

  /** The deadline that a verb sets itself, in milliseconds; undefined: the caller's default. */
  deadlineMs(command: string): number | undefined {
    const { plugin, verb } = splitName(command);
    return this.#verb(plugin, verb)?.deadlineMs;
  }

  /** True if the verb says that running it twice does no more than running it once. */
  idempotent(command: string): boolean {
    const { plugin, verb } = splitName(command);
    return this.#verb(plugin, verb)?.idempotent ?? false;
  }

  /** True if the verb says that it changes nothing at all. */
  readsOnly(command: string): boolean {
    const { plugin, verb } = splitName(command);
    return this.#verb(plugin, verb)?.readsOnly ?? false;
  }

  checks(): readonly Check[] {
    return [{ name: "plugins.running", run: async () => this.#checkRunning() }];
  }

  #host(name: string, plugin: Plugin | undefined): void {
    const log = this.#deps.log.child(`plugin.${name}`);
    const { up, device, configs } = this.#options;
    const runner =
      plugin &&
      new InlineRunner(
        { plugin, config: Object.hasOwn(configs, name) ? configs[name] : undefined },
        {
          clock: this.#deps.clock,
          context: (config, signal) =>
            makeContext({ plugin: name, config, up, device }, { ...this.#deps, log }, signal),
        },
      );
    this.#hosted.set(name, {
      name,
      version: plugin?.version ?? "",
      runner,
      state: "starting",
      restarts: 0,
    });
  }

  /** Alarms outlive a restart; of a plugin that runs no more nobody else would clear them. */
  #clearOrphans(): void {
    const { alarms } = this.#deps;
    const off = this.#options.builtins.filter(({ name }) => !this.#hosted.has(name));
    for (const { alarm } of alarms?.list?.() ?? []) {
      const unhosted =
        alarm.startsWith("plugin.") && !this.#hosted.has(alarm.slice("plugin.".length));
      if (unhosted || off.some(({ name }) => alarm.startsWith(`${name}.`))) alarms?.clear(alarm);
    }
  }

  async #startOne(hosted: Hosted, signal: AbortSignal): Promise<void> {
    try {
      hosted.info = await this.#startRunner(hosted.runner, signal);
      hosted.state = "running";
      this.#deps.alarms?.clear(`plugin.${hosted.name}`);
      this.#log.debug("plugin running", { plugin: hosted.name, version: hosted.version });
    } catch (error) {
      if (signal.aborted) {
        hosted.state = "stopped"; // Cancelled is not failed.
        return;
      }
      this.#failed(hosted, error instanceof Error ? error.message : describeError(error));
    }
    void hosted.runner?.exited.then(({ reason }) => {
      if (!this.#stopped && hosted.state === "running") this.#failed(hosted, reason);
    });
  }

  async #startRunner(runner: PluginRunner | undefined, signal: AbortSignal): Promise<PluginInfo> {
    if (!runner) throw new HoldfastError("not_found", "There is no plugin of this name.");
    const limitMs = this.#options.startTimeoutMs ?? startTimeoutMs;
    // The signal that `action` gets ends with the deadline, the plugin's work with the agent.
    const started = await withDeadline(this.#deps.clock, limitMs, signal, () =>
      Promise.race([runner.start(signal), rejectOnAbort(signal)]),
    );
    if (!started.timedOut) return started.value;
    await runner.stop(AbortSignal.abort());
    throw new HoldfastError("plugin_failed", `It did not start within ${limitMs} ms.`);
  }

  #failed(hosted: Hosted, reason: string): void {
    hosted.state = "failed";
    hosted.reason = reason.slice(0, longestReason);
    this.#log.warn("plugin failed", { plugin: hosted.name, reason: hosted.reason });
    this.#deps.alarms?.raise(`plugin.${hosted.name}`, {
      severity: "warning",
      cause: hosted.reason,
    });
  }

  #running(): readonly PluginInfo[] {
    return [...this.#hosted.values()].flatMap(({ state, info }) =>
      state === "running" && info ? [info] : [],
    );
  }

  #verb(plugin: string, verb: string): VerbInfo | undefined {
    return this.#hosted.get(plugin)?.info?.verbs.find((it) => it.verb === verb);
  }

  async #checkRunning(): Promise<CheckResult> {
    const bad = this.list().filter(({ state }) => state === "failed");
    if (bad.length === 0) return { status: "ok", message: "Every enabled plugin runs." };
    const why = bad.map(({ name, reason }) => `${name} (${reason ?? "unknown"})`).join(", ");
    return {
      status: "warn",
      message: `These plugins do not run: ${why}.`,
      remedy: "Mend their configuration, or take them out of plugins.enabled.",
    };
  }
}

/** A plugin that ignores the signal while it starts must not hold up the end of the agent. */
function rejectOnAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const abort = (): void => reject(new HoldfastError("cancelled"));
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });
}

function splitName(command: string): { readonly plugin: string; readonly verb: string } {
  const dot = command.indexOf(".");
  return { plugin: command.slice(0, dot), verb: command.slice(dot + 1) };
}
