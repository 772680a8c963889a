import type { Command, CommandResult } from "../commands/commands.ts";
import type { JsonObject } from "../core/json.ts";

/**
 * One way to run one plugin. Every implementation keeps the same contract: `start` resolves when
 * commands may come and rejects with `plugin_failed` or `plugin_invalid`; `call` never rejects and
 * ends soon after its signal aborts, whatever the plugin does; `stop` ends what runs and returns
 * by the deadline.
 */
export interface PluginRunner {
  readonly isolation: Isolation;
  start(signal: AbortSignal): Promise<PluginInfo>;
  call(command: Command, signal: AbortSignal): Promise<CommandResult>;
  stop(deadline: AbortSignal): Promise<void>;
  /** Resolves once the plugin no longer runs, asked for or not. Never rejects. */
  readonly exited: Promise<{ readonly reason: string }>;
}

/** What stands between a plugin and the agent. Inline: nothing, it is part of the agent. */
export type Isolation = "inline";

/** What a plugin offers, learned when it starts. */
export interface PluginInfo {
  readonly name: string;
  readonly version: string;
  readonly verbs: readonly VerbInfo[];
}

export interface VerbInfo {
  readonly verb: string;
  readonly summary: string;
  readonly idempotent: boolean;
  readonly readsOnly: boolean;
  readonly deadlineMs?: number;
  readonly concurrency: number;
  /** JSON Schema of the parameters, where the plugin's schemas can tell. */
  readonly params?: JsonObject;
}
