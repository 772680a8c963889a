/** Every subcommand by name; the file behind a name is loaded when the name is used. */
import type { LazySubcommand } from "./subcommand.ts";

export const registry: readonly LazySubcommand[] = [
  {
    name: "run",
    summary: "Run the agent in the foreground.",
    load: async () => (await import("./run.ts")).run,
  },
  {
    name: "status",
    summary: "Show what the agent is doing.",
    load: async () => (await import("./status.ts")).status,
  },
  {
    name: "publish",
    summary: "Hand messages to the agent.",
    load: async () => (await import("./publish.ts")).publish,
  },
  {
    name: "send",
    summary: "Send a command to a device and print its reply.",
    load: async () => (await import("./send.ts")).send,
  },
  {
    name: "runs",
    summary: "Look after commands that were sent.",
    load: async () => (await import("./runs.ts")).runs,
  },
  {
    name: "presence",
    summary: "Ask the service which devices are online.",
    load: async () => (await import("./presence.ts")).presence,
  },
  {
    name: "config",
    summary: "Check, show and change the configuration.",
    load: async () => (await import("./config.ts")).config,
  },
  {
    name: "outbox",
    summary: "Show what waits to be sent.",
    load: async () => (await import("./outbox.ts")).outbox,
  },
  {
    name: "quarantine",
    summary: "Look after messages that the service refuses.",
    load: async () => (await import("./quarantine.ts")).quarantine,
  },
  {
    name: "commands",
    summary: "Show the commands that this device was sent.",
    load: async () => (await import("./commands.ts")).commands,
  },
  {
    name: "cloud",
    summary: "Run the local message service.",
    load: async () => (await import("./cloud.ts")).cloud,
  },
  {
    name: "token",
    summary: "Get, check and revoke tokens for devices.",
    load: async () => (await import("./token.ts")).token,
  },
  {
    name: "version",
    summary: "Print the version.",
    load: async () => (await import("./version.ts")).version,
  },
];
