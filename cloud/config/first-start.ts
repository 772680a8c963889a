/**
 * What a first start in an empty folder makes: an account with a random secret, one instance, one
 * group and its topics in `DIR/cloud.toml`, which only its owner can read; and the sections that an
 * agent and a commander need, to be pasted.
 */
import { link, mkdir, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { HoldfastError } from "../../agent/core/errors.ts";
import type { Random } from "../../agent/core/random.ts";
import type { CloudAddresses, Directory } from "../service/service.ts";

export interface FirstStart {
  /** The path of cloud.toml. */
  readonly file: string;
  /** True when this call wrote it. */
  readonly isFirst: boolean;
}

const GROUP = "GID_demo";
const UP = "GW_UP";
const DOWN = "GW_DOWN";
const SECRET_BYTES = 24;
const ACCESS_KEY_BYTES = 8;

/** Writes DIR/cloud.toml unless it is there. Throws `store_not_writable`. */
export async function prepareDataFolder(dir: string, random: Random): Promise<FirstStart> {
  const file = join(dir, "cloud.toml");
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    return { file, isFirst: await writeNew(dir, file, cloudToml(random)) };
  } catch (cause) {
    throw new HoldfastError("store_not_writable", `Cannot write ${file}.`, { cause });
  }
}

/** What to paste into an agent's and a commander's configuration, for this service as it listens. */
export function pasteableSections(
  directory: Directory,
  ready: CloudAddresses,
): { readonly agent: string; readonly commander: string } {
  const [accessKey = "", secret = ""] = directory.accounts.entries().next().value ?? [];
  const [group = GROUP] = directory.groups;
  const topics = [...directory.topics.keys()];
  const up = topics.includes(UP) ? UP : (topics[0] ?? UP);
  const down = topics.includes(DOWN) ? DOWN : (topics[1] ?? up);
  const shared = `[service]
endpoints = ["mqtt://${ready.mqtt ? reachable(ready.mqtt) : "127.0.0.1:1883"}"]
instance_id = "${directory.instanceId}"

[auth]
access_key = "${accessKey}"
secret = "${secret}"

[topics]
up = "${up}"
down = "${down}"
`;
  const account = ready.http
    ? `
[account]
access_key = "${accessKey}"
secret = "${secret}"
http = "http://${reachable(ready.http)}"
`
    : "";
  return {
    agent: `[device]\nclient_id = "${group}@@@gw-01"\n\n${shared}`,
    commander: `[device]\nclient_id = "${group}@@@console"\n\n${shared}${account}`,
  };
}

/** An address to listen on is not always one to connect to. */
function reachable({ host, port }: { readonly host: string; readonly port: number }): string {
  const name = host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host;
  return name.includes(":") ? `[${name}]:${port}` : `${name}:${port}`;
}

function cloudToml(random: Random): string {
  const accessKey = `AK${Buffer.from(random.bytes(ACCESS_KEY_BYTES)).toString("hex").toUpperCase()}`;
  const secret = Buffer.from(random.bytes(SECRET_BYTES)).toString("base64url");
  return `# Written at the first start of the local service; yours to change.

[listen]
host = "127.0.0.1"
mqtt = 1883
http = 8080

[data]
dir = "."

[[accounts]]
access_key = "${accessKey}"
secret = "${secret}"

[instance]
id = "mqtt-local"
groups = ["${GROUP}"]

[[instance.topics]]
name = "${UP}"

[[instance.topics]]
name = "${DOWN}"

[[instance.topics]]
name = "${GROUP}_MQTT"
`;
}

/** False when it is there already; whole and synced, or not there at all. */
async function writeNew(dir: string, file: string, text: string): Promise<boolean> {
  const draft = `${file}.new`;
  await rm(draft, { force: true });
  const handle = await open(draft, "wx", 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  try {
    // A link, and no rename, which would replace the file of another process.
    await link(draft, file);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
  const folder = await open(dir, "r");
  await folder.sync().finally(() => folder.close());
  return true;
}
