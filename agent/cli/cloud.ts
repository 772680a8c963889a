import {
  type CloudAddresses,
  type CloudOptions,
  LocalCloud,
  loadCloudConfig,
  pasteableSections,
  prepareDataFolder,
} from "../../cloud/cloud.ts";
import { HoldfastError } from "../core/errors.ts";
import { type LogLevel, logLevels } from "../core/log.ts";
import { Log } from "../log/log.ts";
import { cloudChanges } from "./cloud-add.ts";
import {
  type CliContext,
  defineSubcommand,
  exit,
  expected,
  flag,
  integer,
  oneOf,
  option,
  type Parser,
  text,
} from "./subcommand.ts";

/** How long connections may take to end after SIGTERM, in milliseconds. */
const STOP_MS = 5_000;

const DEFAULT_LEVEL: LogLevel = "info";

type Port = number | "auto";

const portNumber = integer({ min: 0, max: 65_535 });
const port: Parser<Port> = (given) => {
  if (given === "auto") return given;
  if (!/^\d+$/.test(given)) throw expected("a port or auto", given);
  return portNumber(given);
};
const portOption = (doc: string) => option({ value: "N", doc, parse: port });

export const cloud = defineSubcommand({
  name: "cloud",
  summary: "Run the local message service.",
  help: [
    "Speaks the protocol of the service on one machine, for development, tests and small sites.",
    "With --data and no cloud.toml in that folder it makes one (an account with a random secret,",
    "the instance mqtt-local, the group GID_demo) and prints what an agent and a commander need.",
    "Listens on the loopback only, unless told otherwise. A port of 0 is not listened on; auto is",
    "any free port. SIGTERM ends it.",
  ].join(" "),
  examples: [
    {
      command: "cloud --data ./cloud-data",
      doc: "start, and at the first start print what to paste",
    },
    { command: "cloud --config cloud.toml --json", doc: "from a file; the addresses as JSON" },
    { command: "cloud topic add GW_UP2 --data ./cloud-data", doc: "change it while it runs" },
    { command: "cloud --data /tmp/c --mqtt-port auto --http-port auto", doc: "on free ports" },
  ],
  options: {
    config: option({ value: "FILE", doc: "its configuration", parse: text }),
    data: option({ value: "DIR", doc: "a folder for its configuration and data", parse: text }),
    host: option({ value: "ADDRESS", doc: "listen on this address", parse: text }),
    mqttPort: portOption("MQTT over TCP"),
    mqttsPort: portOption("MQTT over TLS"),
    wsPort: portOption("MQTT over WebSocket"),
    wssPort: portOption("MQTT over WebSocket and TLS"),
    httpPort: portOption("status query, token API and MQ side"),
    logLevel: option({
      value: "LEVEL",
      doc: `one of ${logLevels.join(", ")}`,
      parse: oneOf<LogLevel>(logLevels),
      default: DEFAULT_LEVEL,
    }),
    json: flag("print the addresses as one JSON object"),
  },
  subcommands: cloudChanges,
  run: async ({ options }, context) => {
    if ((options.config === undefined) === (options.data === undefined)) {
      throw new HoldfastError("usage", "give either --config FILE or --data DIR");
    }
    const prepared = options.data
      ? await prepareDataFolder(options.data, context.random)
      : { file: options.config ?? "", isFirst: false };
    const ports = {
      mqtt: options.mqttPort,
      mqtts: options.mqttsPort,
      ws: options.wsPort,
      wss: options.wssPort,
      http: options.httpPort,
    };
    const sources = {
      file: prepared.file,
      environment: context.env,
      flags: toFlags({ host: options.host, data: options.data }, ports),
      workingFolder: process.cwd(),
    };
    const { options: loaded, dataDir } = loadCloudConfig(sources);
    const service = { ...loaded, listen: withFreePorts(loaded.listen, ports) };
    const log = new Log(
      { level: options.logLevel },
      { stream: logStream(context), clock: context.clock },
    );
    const local = new LocalCloud(
      { service, dataDir, sources },
      { clock: context.clock, random: context.random, log },
    );
    await local.start(context.signal);
    const ready = local.ready ?? {};
    const sections = prepared.isFirst ? pasteableSections(service.directory, ready) : undefined;
    context.stdout.write(
      options.json ? asJson(ready, sections) : asText(ready, sections, prepared.file),
    );
    await untilAborted(context.signal);
    await stopInTime(local, context);
    return exit.done;
  },
});

type Ports = Readonly<Record<"mqtt" | "mqtts" | "ws" | "wss" | "http", Port | undefined>>;
interface Sections {
  readonly agent: string;
  readonly commander: string;
}

/** `--data` says where the data is, too: whatever the file in that folder says or leaves out. */
function toFlags(
  { host, data }: { readonly host: string | undefined; readonly data: string | undefined },
  ports: Ports,
): string[] {
  const flags = host === undefined ? [] : [`listen.host=${host}`];
  if (data !== undefined) flags.push(`data.dir=${data}`);
  for (const [name, value] of Object.entries(ports)) {
    if (value !== undefined) flags.push(`listen.${name}=${value === "auto" ? 0 : value}`);
  }
  return flags;
}

/** `auto` cannot be written in the file, where 0 means none. */
function withFreePorts(listen: CloudOptions["listen"], ports: Ports): CloudOptions["listen"] {
  return {
    ...listen,
    ...(ports.mqtt === "auto" && { mqtt: { port: 0 } }),
    ...(ports.mqtts === "auto" && { mqtts: { port: 0 } }),
    ...(ports.ws === "auto" && { ws: { port: 0 } }),
    ...(ports.wss === "auto" && { wss: { port: 0 } }),
    ...(ports.http === "auto" && { http: { port: 0 } }),
  };
}

function hostPorts(ready: CloudAddresses): [string, string][] {
  return Object.entries(ready).map(([name, { host, port }]) => [name, `${host}:${port}`]);
}

function asJson(ready: CloudAddresses, sections: Sections | undefined): string {
  return `${JSON.stringify({ ...Object.fromEntries(hostPorts(ready)), ...sections })}\n`;
}

function asText(ready: CloudAddresses, sections: Sections | undefined, file: string): string {
  const line = `ready ${hostPorts(ready)
    .map(([name, address]) => `${name}=${address}`)
    .join(" ")}\n`;
  if (!sections) return line;
  return `# A first start: the account and its secret are in ${file}.

# For an agent, into its configuration (mode 0600); with state.dir it is ready to run:

${sections.agent}
# For a commander, into ~/.config/holdfast/commander.toml (mode 0600):

${sections.commander}
${line}`;
}

function logStream(context: CliContext) {
  return {
    write: (line: string): boolean => {
      context.stderr.write(line);
      return true;
    },
    on: (): undefined => undefined,
  };
}

/** What is still under way when the time is over is cut off; what was acknowledged is on disk. */
async function stopInTime(local: LocalCloud, context: CliContext): Promise<void> {
  const deadline = new AbortController();
  const stopped = new AbortController();
  void context.clock.sleep(STOP_MS, stopped.signal).then(() => deadline.abort());
  await local.stop(deadline.signal);
  stopped.abort();
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
