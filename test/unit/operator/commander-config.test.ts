/** commander.toml: where it is, what it takes, and what is refused with the key and the line. */
import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { commanderFolders, loadCommanderConfig } from "../../../cloud/operator/operator.ts";
import { tempDir } from "../../support/temp-dir.ts";

const good = `[device]
client_id = "GID_demo@@@console"
[auth]
access_key = "AK"
secret = "TOP-SECRET"
`;

test("its places follow the XDG rules", () => {
  expect(commanderFolders({ HOME: "/home/a" })).toEqual({
    configFile: "/home/a/.config/holdfast/commander.toml",
    stateDir: "/home/a/.local/state/holdfast",
  });
  expect(
    commanderFolders({ HOME: "/home/a", XDG_CONFIG_HOME: "/c", XDG_STATE_HOME: "/s" }),
  ).toEqual({ configFile: "/c/holdfast/commander.toml", stateDir: "/s/holdfast" });
  // The specification says to ignore relative ones.
  expect(commanderFolders({ HOME: "/home/a", XDG_STATE_HOME: "state" }).stateDir).toBe(
    "/home/a/.local/state/holdfast",
  );
  expect(() => commanderFolders({})).toThrow(/HOME/);
});

test("client id and credentials are enough", async () => {
  const config = await load(good);
  expect(config.device.client_id).toBe("GID_demo@@@console");
  expect(config.service.endpoints).toEqual(["mqtt://127.0.0.1:1883"]);
  expect(config.topics.down).toBe("GW_DOWN");
  expect(config.auth.secret?.reveal()).toBe("TOP-SECRET");
});

test("the agent's sections can be pasted whole, the example of a commander's too", async () => {
  const config = await load(`${good}
[service]
profile = "lmq"
keepalive_s = 60
clean_session = false
[service.reconnect]
min_ms = 100
[tls]
ca_file = ""
[topics]
up = "GW_UP"
down = "GW_DOWN"
[keys]
default = "ops-1"
dir = "~/.config/holdfast/keys"
[account]
access_key = "AK"
secret = "S2"
http = "http://127.0.0.1:8080"
`);
  expect(config.keys.dir).toMatch(/\.config\/holdfast\/keys$/);
  expect(config.account.secret?.reveal()).toBe("S2");
});

test("variables have the agent's names, and those of sections it does not know are not its own", async () => {
  const config = await load(good, {
    HOLDFAST_AUTH__SECRET: "FROM-ENV",
    HOLDFAST_OUTBOX__WINDOW: "1",
    HOLDFAST_CONTROL__DIR: "/run/x",
  });
  expect(config.auth.secret?.reveal()).toBe("FROM-ENV");
});

test.each([
  ["an unknown key", `${good}\n[service]\nendpoint = 1`, /commander\.toml:8.*endpoint/],
  ["a section of the agent's", `${good}\n[outbox]\nwindow = 1`, /outbox/],
  ["no client id", good.replace(/client_id.*/, ""), /device\.client_id.*missing/],
  ["a client id of no group", good.replace("GID_demo@@@", ""), /device\.client_id/],
  ["one without room for a slot", good.replace("console", "c".repeat(52)), /two more characters/],
  ["no secret", good.replace(/secret.*/, ""), /auth\.access_key/],
  ["a mode for devices", `${good}mode = "token"`, /auth\.mode.*signature or password/],
  ["half an account", `${good}\n[account]\nhttp = "http://x"`, /account\.access_key/],
  ["an account's URL of another kind", `${good}\n[account]\nhttp = "ftp://x"`, /account\.http/],
  ["signature on a standard broker", `${good}\n[service]\nprofile = "mqtt"`, /auth\.mode/],
  [
    "a transport that is not there yet",
    `${good}\n[service]\nendpoints = ["ws://127.0.0.1:80"]`,
    /service\.endpoints.*WebSocket/,
  ],
  ["a proxy", `${good}\n[service]\nproxy = "http://p:3128"`, /service\.proxy/],
  ["a reply topic that is too long", `${good}\n[service]\ntopic_max = 30`, /topic of replies/],
])("%s is refused with its place", async (_, text, message) => {
  await expect(load(text)).rejects.toMatchObject({
    code: "config_invalid",
    message: expect.stringMatching(message),
  });
});

test("no message shows a secret", async () => {
  const error = await load(`${good}\nmode = "token"\n[x]`).catch((caught: unknown) => caught);
  expect(String(error)).toContain("auth.mode");
  expect(String(error)).not.toContain("TOP-SECRET");
});

test("a file with a secret that others can read is refused, and chmod is named", async () => {
  await expect(load(good, {}, 0o644)).rejects.toMatchObject({
    code: "secret_exposed",
    message: expect.stringContaining("chmod 600"),
  });
});

test("profile mqtt takes a plain client id with user name and password, or nobody's", async () => {
  const plain = `[device]\nclient_id = "console"\n[service]\nprofile = "mqtt"\n[auth]\nmode = "password"`;
  expect((await load(plain)).device.client_id).toBe("console");
});

async function load(text: string, environment: Record<string, string> = {}, mode = 0o600) {
  const dir = await tempDir();
  const configFile = join(dir, "commander.toml");
  await writeFile(configFile, text);
  await chmod(configFile, mode);
  return loadCommanderConfig({
    configFile,
    environment: { HOME: dir, ...environment },
    workingDir: dir,
  });
}
