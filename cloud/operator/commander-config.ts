/**
 * commander.toml: how a person's machine reaches the service. The sections [service], [auth], [tls]
 * and [topics] are the agent's own, key for key, so that they can be pasted from one to the other.
 */
import { join } from "node:path";
import {
  agentTable,
  defineTable,
  type Files,
  type Loaded,
  loadToml,
  path,
  type Report,
  secret,
  section,
  text,
} from "../../agent/config/config.ts";
import { HoldfastError, isHoldfastError } from "../../agent/core/errors.ts";
import { parseClientId } from "../../agent/protocol/client-id.ts";
import { makeP2pTopic } from "../../agent/protocol/topics.ts";
import { SLOT_COUNT, slotClientId } from "./slots.ts";

const { service, auth, tls, topics } = agentTable.fields;

const commanderTable = defineTable({
  device: section("Who this commander is.", {
    client_id: text({
      required: true,
      example: "GID_demo@@@console",
      doc: `Its client id; commands are sent from it with -1 to -${SLOT_COUNT} behind it.`,
    }),
  }),
  service,
  auth,
  tls,
  topics,
  keys: section("Keys that sign commands.", {
    default: text({ default: "", example: "ops-1", doc: "The key to sign with." }),
    dir: path({
      default: ({ XDG_CONFIG_HOME, HOME }) =>
        join(XDG_CONFIG_HOME || join(HOME ?? "", ".config"), "holdfast", "keys"),
      defaultDoc: "~/.config/holdfast/keys",
      example: "~/.config/holdfast/keys",
      doc: "Where key files are.",
    }),
  }),
  account: section("The account that asks who is online; without it nobody can be asked.", {
    access_key: text({ default: "", example: "AK", doc: "The account." }),
    secret: secret({ doc: "Its secret." }),
    http: text({
      default: "",
      example: "http://127.0.0.1:8080",
      doc: "Base URL of the service's HTTP side.",
      check: (value) =>
        value === "" || /^https?:\/\/[^\s/?#@]+(\/[^\s?#]*)?$/.test(value)
          ? undefined
          : "a URL like http://HOST:PORT",
    }),
  }),
});

export type CommanderConfig = Loaded<typeof commanderTable>;
type Environment = Readonly<Record<string, string | undefined>>;

export interface CommanderFolders {
  readonly configFile: string;
  readonly stateDir: string;
}

/** Where a commander's files are by the XDG rules: relative values are to be ignored. */
export function commanderFolders(environment: Environment): CommanderFolders {
  const home = environment["HOME"];
  const folder = (variable: string, ...below: readonly string[]): string => {
    const given = environment[variable];
    if (given?.startsWith("/")) return join(given, "holdfast");
    if (home) return join(home, ...below, "holdfast");
    throw new HoldfastError("config_invalid", `Neither HOME nor ${variable} says where to look.`);
  };
  return {
    configFile: join(folder("XDG_CONFIG_HOME", ".config"), "commander.toml"),
    stateDir: folder("XDG_STATE_HOME", ".local", "state"),
  };
}

export interface CommanderSources {
  /** Instead of commander.toml in the usual place. */
  readonly configFile?: string | undefined;
  readonly environment: Environment;
  readonly workingDir: string;
}

/**
 * The file, then variables of the agent's names (`HOLDFAST_AUTH__SECRET`). Throws `config_invalid`
 * or `secret_exposed`, with every problem at once.
 */
export function loadCommanderConfig(
  { configFile, environment, workingDir }: CommanderSources,
  files?: Files,
): CommanderConfig {
  const { config } = loadToml(
    commanderTable,
    {
      files: [configFile ?? commanderFolders(environment).configFile],
      environmentPrefix: "HOLDFAST_",
      environment: ownVariables(environment),
      folders: { working: workingDir, home: environment["HOME"] ?? workingDir },
    },
    { ...(files ? { files } : {}), finish: checkAcross },
  );
  return config;
}

/** An agent on the same machine may have variables for sections that a commander does not know. */
function ownVariables(environment: Environment): Environment {
  const sections = Object.keys(commanderTable.fields).map((name) => name.toUpperCase());
  return Object.fromEntries(
    Object.entries(environment).filter(
      ([name]) =>
        !name.startsWith("HOLDFAST_") ||
        sections.some((known) => name.startsWith(`HOLDFAST_${known}__`)),
    ),
  );
}

function checkAcross(config: CommanderConfig, report: Report): CommanderConfig {
  checkClientId(config, report);
  checkTransport(config, report);
  checkAuth(config, report);
  const { access_key, secret: accountSecret, http } = config.account;
  const given = [access_key !== "", accountSecret !== undefined, http !== ""];
  if (given.includes(true) && given.includes(false)) {
    report.wrong(
      ["account.access_key"],
      "the account is not complete; expected access_key, secret and http, or none of them",
    );
  }
  if (config.tls.key_file !== "") report.exposed("tls.key_file", config.tls.key_file);
  return config;
}

function checkClientId({ device, service, topics }: CommanderConfig, report: Report): void {
  const longest = slotClientId(device.client_id, SLOT_COUNT);
  try {
    parseClientId(longest, service.profile);
  } catch (error) {
    if (!isHoldfastError(error, "client_id_invalid")) throw error;
    report.wrong(
      ["device.client_id"],
      `with the number of a slot it is ${longest}: ${error.message} Expected a client id that ` +
        "leaves room for two more characters",
    );
    return;
  }
  const replyTopic = makeP2pTopic(topics.down, longest);
  if (replyTopic.length > service.topic_max) {
    report.wrong(
      ["device.client_id", "topics.down"],
      `the topic of replies, ${replyTopic}, is ${replyTopic.length} characters long; expected at ` +
        `most ${service.topic_max} (service.topic_max), so shorten client_id or topics.down`,
    );
  }
}

/** What `connection` cannot do yet must not look like a service that does not answer. */
function checkTransport({ service }: CommanderConfig, report: Report): void {
  if (service.endpoints.some((endpoint) => /^wss?:/.test(endpoint))) {
    report.wrong(
      ["service.endpoints"],
      "this release does not speak WebSocket; expected mqtt:// or mqtts://",
    );
  }
  if (service.proxy !== "") {
    report.wrong(["service.proxy"], "this release knows no proxy; expected no such line");
  }
}

function checkAuth({ auth, service }: CommanderConfig, report: Report): void {
  const { mode } = auth;
  if (mode === "token" || mode === "jwt") {
    report.wrong(["auth.mode"], `a commander cannot use ${mode}; expected signature or password`);
  }
  if (mode === "signature" && service.profile === "mqtt") {
    report.wrong(["auth.mode"], "signature is for the profile lmq; expected password or mtls");
  }
  if (mode === "signature" && (auth.access_key === "" || auth.secret === undefined)) {
    report.wrong(["auth.access_key"], "mode signature lacks it; expected access_key and secret");
  }
}
