import { limits } from "../core/limits.ts";
import { definePlugin, type Plugin, PluginError, type Schema } from "../sdk/sdk.ts";
import type { PluginInfo } from "./plugin-runner.ts";

/** What is left of a reserved reply for the list, beside the envelope of the reply. */
const listBytes = limits.replyReservationBytes - 512;

interface Listed {
  readonly command: string;
  readonly summary: string;
  readonly idempotent?: true;
  readonly deadlineMs?: number;
  readonly params?: { readonly [key: string]: unknown };
}

/**
 * The agent's own verbs, as a plugin like any other, so that they are checked and listed alike.
 * `plugins` gives what runs now.
 */
export function agentVerbs(plugins: () => readonly PluginInfo[]): Plugin {
  return definePlugin({
    name: "agent",
    version: "1.0.0",
    commands: {
      describe: {
        summary: "The commands of this device, or one of them with the schema of its parameters.",
        idempotent: true,
        readsOnly: true,
        params: describeParams,
        handler: ({ command }) => describe(plugins(), command),
      },
    },
  });
}

function describe(plugins: readonly PluginInfo[], command: string | undefined): object {
  const all = plugins.flatMap(list);
  if (command !== undefined) {
    const one = all.find((entry) => entry.command === command);
    if (!one) throw new PluginError("not_found", `There is no command ${command}.`);
    return { commands: [one] };
  }
  return shorten(all);
}

/** Schemas go first when the list is too long for a reply, then the last commands. */
function shorten(all: readonly Listed[]): object {
  if (bytesOf(all) <= listBytes) return { commands: all };
  const brief = all.map(({ command, summary }) => ({ command, summary }));
  let kept = brief.length;
  while (kept > 0 && bytesOf(brief.slice(0, kept)) > listBytes) kept--;
  return { commands: brief.slice(0, kept), brief: true, truncated: brief.length - kept };
}

function list(plugin: PluginInfo): Listed[] {
  return plugin.verbs.map(({ verb, summary, idempotent, deadlineMs, params }) => ({
    command: `${plugin.name}.${verb}`,
    summary,
    ...(idempotent && { idempotent }),
    ...(deadlineMs !== undefined && { deadlineMs }),
    ...(params && { params }),
  }));
}

function bytesOf(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}

/** `{ command?: string }`, by hand: the host brings no schema library of its own. */
const describeParams: Schema<{ command?: string }> = {
  "~standard": {
    version: 1,
    vendor: "holdfast",
    validate(value) {
      const { command, ...others } = value as Record<string, unknown>;
      const extra = Object.keys(others)[0];
      if (extra !== undefined) return { issues: [{ message: "is unknown", path: [extra] }] };
      if (command === undefined) return { value: {} };
      if (typeof command === "string" && command.length <= 128) return { value: { command } };
      return { issues: [{ message: "is the name of a command", path: ["command"] }] };
    },
  },
};
