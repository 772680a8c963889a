/**
 * `holdfast run`: the agent as a process. The composition is in `agent.ts`; here are only its
 * beginning and its end.
 *
 * SIGTERM and SIGINT: a clean stop within `STOP_DEADLINE_MS`, exit 0. SIGHUP: the configuration is
 * read again and given to the agent; a wrong one changes nothing and is logged.
 */
import { type LoadedConfig, loadConfig } from "../config/config.ts";
import type { Component } from "../core/component.ts";
import { describeError } from "../core/errors.ts";
import { configOption, configSources, setOption } from "./sources.ts";
import { type CliContext, defineSubcommand, type ExitStatus, exit, flag } from "./subcommand.ts";

/** Below systemd's default of 90 s, above what a synced flush of a slow card takes. */
const STOP_DEADLINE_MS = 20_000;

/** What `run` needs of an agent. */
export interface Runnable extends Component {
  /** Takes what can change while it runs; throws, with nothing changed, what cannot be. */
  reload?(loaded: LoadedConfig): Promise<void>;
  /** Rejects or resolves when the agent ends by itself. */
  readonly ended?: Promise<void>;
  /** Resolves when it is to be stopped and built anew: its store can be opened now. */
  readonly again?: Promise<void>;
}

export type AgentFactory = (
  options: AgentOptions,
  deps: Pick<CliContext, "clock" | "random">,
) => Promise<Runnable>;

export interface AgentOptions {
  readonly loaded: LoadedConfig;
  readonly version: string;
  readonly safeMode: boolean;
  readonly acceptSessionChange: boolean;
}

export const run = defineSubcommand({
  name: "run",
  summary: "Run the agent in the foreground.",
  help:
    "Logs JSON lines to stderr. SIGTERM stops it cleanly, SIGHUP reads the configuration again. " +
    "Exit status 2 for a wrong configuration, 1 when another process holds the state folder.",
  examples: [
    { command: "run --config /etc/holdfast/agent.toml", doc: "as the service does" },
    { command: "run -c agent.toml --set log.level=debug", doc: "with one key changed" },
  ],
  options: {
    config: configOption,
    set: setOption,
    noSafeMode: flag("start with all plugins even after repeated crashes"),
    acceptSessionChange: flag("accept that clean_session differs from what the service knows"),
  },
  async run({ options }, context) {
    const { createAgent } = await import("../agent.ts");
    // The stream itself, because the log must see when it is full: a stuck reader of the log may
    // stop neither the agent nor fill its memory.
    return runAgent(options, context, (agentOptions, { clock, random }) =>
      createAgent(agentOptions, { clock, random, stderr: process.stderr }),
    );
  },
});

interface RunOptions {
  readonly config: string | undefined;
  readonly set: readonly string[];
  readonly noSafeMode: boolean;
  readonly acceptSessionChange: boolean;
}

export async function runAgent(
  options: RunOptions,
  context: CliContext,
  createAgent: AgentFactory,
): Promise<ExitStatus> {
  const load = (): LoadedConfig => loadConfig(configSources(options, context));
  for (;;) {
    const agent = await createAgent(
      {
        loaded: load(),
        version: context.version,
        safeMode: !options.noSafeMode,
        acceptSessionChange: options.acceptSessionChange,
      },
      context,
    );
    if ((await runOnce(agent, load, context)) === "end") return exit.done;
  }
}

async function runOnce(
  agent: Runnable,
  load: () => LoadedConfig,
  context: CliContext,
): Promise<"end" | "again"> {
  const never = new Promise<never>(() => undefined);
  const ended = (agent.ended ?? never).then((): "end" => "end");
  ended.catch(() => undefined); // It may come while the agent still starts; it is awaited below.
  const again = (agent.again ?? never).then((): "again" => "again");
  // Not the context's signal: that one asks for a stop, this one ends everything at once.
  const life = new AbortController();
  const offHangup = context.onHangup(() => void reload(agent, load, context));
  try {
    await agent.start(life.signal);
    const asked = aborted(context.signal).then((): "end" => "end");
    return await Promise.race([asked, ended, again]);
  } finally {
    offHangup();
    await stop(agent, context);
    life.abort();
  }
}

async function reload(agent: Runnable, load: () => LoadedConfig, context: CliContext) {
  try {
    await agent.reload?.(load());
  } catch (error) {
    context.stderr.write(`holdfast: the configuration stays as it was: ${describeError(error)}\n`);
  }
}

/** Within the deadline, or a little after it for those who do not look. */
async function stop(agent: Runnable, { clock }: CliContext): Promise<void> {
  const deadline = new AbortController();
  const done = new AbortController();
  const expiry = clock.sleep(STOP_DEADLINE_MS, done.signal).then(() => {
    if (!done.signal.aborted) deadline.abort();
  });
  try {
    await agent.stop(deadline.signal);
  } finally {
    done.abort();
    await expiry;
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
