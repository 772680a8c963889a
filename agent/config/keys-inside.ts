/** The agent's keys about what happens on the device. */
import { logLevels } from "../core/log.ts";
import { checkPublicKey, checkReplyTo } from "./forms.ts";
import { choice, flag, free, integer, list, named, path, section, tables, text } from "./table.ts";

export const state = section("What is kept on disk.", {
  dir: path({
    default: (environment) => firstFolder(environment["STATE_DIRECTORY"]) ?? "/var/lib/holdfast",
    defaultDoc: "$STATE_DIRECTORY, else /var/lib/holdfast",
    example: "/var/lib/holdfast",
    doc: "Folder of the database and of what the agent sets itself.",
  }),
  quota_mb: integer({
    default: 320,
    min: 16,
    max: 10_000_000,
    unit: "MB",
    doc: "Bound of everything in dir: database, ballast, quarantine, logs; 1 MB is 1,048,576 bytes.",
  }),
  keep_free_mb: integer({
    default: 64,
    min: 0,
    max: 10_000_000,
    unit: "MB",
    doc: "What stays free on the file system, whatever the quota says; only alarms, events and replies may use it.",
  }),
});

export const commands = section("Commands from afar.", {
  allow_unsigned: list({
    default: ["system.ping", "system.info"],
    doc: "Commands that need no signature; * stands for any run of characters.",
  }),
  reply_to: list({
    default: ["{down}/p2p/+", "{up}/reply/+"],
    doc: "Topics that a command may ask its reply on; {up} and {down} are the parent topics.",
    check: checkReplyTo,
  }),
  reply_rate: integer({
    default: 10,
    min: 1,
    max: 10_000,
    unit: "replies/s",
    doc: "Replies a second to one sender.",
  }),
  max_queued: integer({
    default: 1_000,
    min: 1,
    max: 100_000,
    unit: "commands",
    doc: "Commands that wait at most; more are answered busy.",
  }),
  keys: tables("Who may sign commands, and which ones.", {
    kid: text({
      required: true,
      example: "ops-1",
      doc: "Name of the key, as in the signature.",
      check: (value) => (/^[\w.:-]{1,64}$/.test(value) ? undefined : "1 to 64 of A-Za-z0-9._:-"),
    }),
    public_key: text({
      required: true,
      example: "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
      doc: "Ed25519 public key: base64 or base64url of its 32 bytes.",
      check: checkPublicKey,
    }),
    allow: list({
      default: [],
      example: ["system.*", "logs.tail"],
      doc: "Commands that this key may sign; * stands for any run of characters.",
    }),
  }),
});

export const health = section("Health reports.", {
  interval_s: integer({
    default: 60,
    min: 5,
    max: 86_400,
    unit: "s",
    doc: "A report this often.",
  }),
});

export const clock = section("The device's clock.", {
  trust: choice(["auto", "always"], {
    default: "auto",
    doc: "auto: once the kernel says synchronised, or a server vouched, or a hardware clock shows a time past the floor. always: from the start.",
  }),
});

export const plugins = section("Plugins.", {
  dir: path({
    default: "",
    defaultDoc: "<state.dir>/plugins",
    example: "/var/lib/holdfast/plugins",
    doc: "Folder of installed plugins.",
  }),
  enabled: list({
    default: ["system"],
    doc: "What runs. A folder that appears in dir is listed at once, and runs when it is enabled.",
  }),
  config: free(
    "What a plugin reads as its config: one section for each plugin, [plugins.config.NAME].",
  ),
  limits: named("Limits of one plugin.", {
    memory_mb: integer({
      default: 64,
      min: 8,
      max: 65_536,
      unit: "MB",
      doc: "Memory that it may use.",
    }),
    isolation: choice(["auto", "none"], {
      default: "auto",
      doc: "none: run it unconfined where no wall can be built.",
    }),
  }),
  grants: named("What of its manifest a plugin gets.", {
    publish: list({ default: [], doc: "Topics below topics.up it may publish to." }),
    subscribe: list({ default: [], doc: "Topic filters it may subscribe to." }),
    commands: list({ default: [], doc: "Commands it may register." }),
    paths: list({ default: [], doc: "Files and folders it may use." }),
    network: flag({ default: false, doc: "It may use the network." }),
    processes: flag({ default: false, doc: "It may start processes." }),
  }),
});

export const control = section("The local API.", {
  dir: path({
    default: (environment) => firstFolder(environment["RUNTIME_DIRECTORY"]) ?? "",
    defaultDoc: "$RUNTIME_DIRECTORY, else <state.dir>",
    example: "/run/holdfast",
    doc: "Folder of its sockets.",
  }),
});

export const log = section("The log.", {
  level: choice(logLevels, {
    default: "info",
    reloadable: true,
    doc: "Lines below this level are not written.",
  }),
});

/** systemd names several folders with colons between them; the first one is ours. */
function firstFolder(value: string | undefined): string | undefined {
  const first = value?.split(":")[0];
  return first === "" ? undefined : first;
}
