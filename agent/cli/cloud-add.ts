/** `holdfast cloud topic|group|account add NAME`: changes a service that runs, or its configuration. */
import {
  askService,
  type Change,
  type CloudSources,
  changeConfig,
  loadCloudConfig,
  readChange,
} from "../../cloud/cloud.ts";
import { HoldfastError, isHoldfastError } from "../core/errors.ts";
import {
  argument,
  type CliContext,
  defineGroup,
  defineSubcommand,
  exit,
  flag,
  option,
  type Subcommand,
  text,
} from "./subcommand.ts";

const SECRET_BYTES = 24;

const where = {
  data: option({ value: "DIR", doc: "the folder of the service", parse: text }),
  config: option({ value: "FILE", doc: "its configuration", parse: text }),
};

interface Where {
  readonly data: string | undefined;
  readonly config: string | undefined;
}

const help =
  "A service that runs knows it at once, and it is written into its cloud.toml; where none runs, " +
  "it is written there for the next start.";

const topic = defineSubcommand({
  name: "add",
  summary: "Create a parent topic.",
  help,
  examples: [{ command: "cloud topic add GW_UP2 --data ./cloud", doc: "one more" }],
  arguments: { name: argument("NAME", "the parent topic") },
  options: { ordered: flag("an ordered one, for MQ consumers"), ...where },
  run: async ({ arguments: { name }, options }, context) => {
    await add({ kind: "topic", name, ordered: options.ordered }, options, context);
    return exit.done;
  },
});

const group = defineSubcommand({
  name: "add",
  summary: "Create a group of clients.",
  help: `${help} Its presence notices are kept once there is a topic NAME_MQTT.`,
  examples: [{ command: "cloud group add GID_site --data ./cloud", doc: "one more" }],
  arguments: { name: argument("NAME", "the group id") },
  options: where,
  run: async ({ arguments: { name }, options }, context) => {
    await add({ kind: "group", name }, options, context);
    return exit.done;
  },
});

const account = defineSubcommand({
  name: "add",
  summary: "Create an account with a random secret, and print both.",
  help,
  examples: [{ command: "cloud account add AK2 --data ./cloud", doc: "prints the secret once" }],
  arguments: { name: argument("NAME", "the AccessKeyId") },
  options: where,
  run: async ({ arguments: { name }, options }, context) => {
    const secret = Buffer.from(context.random.bytes(SECRET_BYTES)).toString("base64url");
    await add({ kind: "account", name, secret }, options, context);
    context.stdout.write(`access_key = "${name}"\nsecret = "${secret}"\n`);
    return exit.done;
  },
});

/** Below `cloud`, which runs the service. */
export const cloudChanges: readonly Subcommand[] = [
  defineGroup({ name: "topic", summary: "Create parent topics.", subcommands: [topic] }),
  defineGroup({ name: "group", summary: "Create groups of clients.", subcommands: [group] }),
  defineGroup({ name: "account", summary: "Create accounts.", subcommands: [account] }),
];

async function add(wanted: Change, options: Where, context: CliContext): Promise<void> {
  const sources = sourcesOf(options, context);
  const { dataDir } = loadCloudConfig(sources);
  const what = `${wanted.kind} ${wanted.name}`;
  try {
    const change = readChange(wanted);
    const answer = await askService(dataDir, change);
    if (answer) {
      const text = answer["added"] === true ? "The service knows" : "The service knew already";
      context.stderr.write(`${text} the ${what}; it is in ${sources.file}.\n`);
      return;
    }
    const { added } = changeConfig(sources, change);
    const text = added ? "is in" : "was already in";
    context.stderr.write(
      `No service runs over ${dataDir}: the ${what} ${text} ${sources.file} for its next start.\n`,
    );
  } catch (error) {
    // A change that cannot be made is a wrong command, not a request that failed.
    if (!isHoldfastError(error, "request_invalid")) throw error;
    throw new HoldfastError("usage", error.message);
  }
}

function sourcesOf({ data, config }: Where, context: CliContext): CloudSources {
  if ((config === undefined) === (data === undefined)) {
    throw new HoldfastError("usage", "give either --config FILE or --data DIR");
  }
  return {
    file: config ?? `${data}/cloud.toml`,
    environment: context.env,
    flags: data === undefined ? [] : [`data.dir=${data}`],
    workingFolder: process.cwd(),
  };
}
