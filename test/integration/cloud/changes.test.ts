/** `holdfast cloud topic|group|account add` on a service that runs, and on one that does not. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { makeConnectPassword } from "../../../agent/protocol/connect-signature.ts";
import { spawnCloud } from "../../support/cloud-process.ts";
import { MqClient } from "../../support/mq-client.ts";
import { RawClient } from "../../support/raw-client.ts";
import { tempDir } from "../../support/temp-dir.ts";

const main = fileURLToPath(new URL("../../../agent/main.ts", import.meta.url));

async function holdfast(...words: readonly string[]) {
  const child = spawn(process.execPath, [main, ...words], { stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    err += chunk.toString();
  });
  const [status] = (await once(child, "close")) as [number];
  return { status, out, err };
}

const toml = `# by hand
[data]
dir = "."
[[accounts]]
access_key = "AK"
secret = "SK"
[instance]
groups = ["GID_demo"]
[[instance.topics]]
name = "GW_UP"
`;

async function dataFolder(name = "."): Promise<string> {
  const dir = join(await tempDir(), name);
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, "cloud.toml"), toml, { mode: 0o600 });
  return dir;
}

it("a service that runs knows a topic, a group and an account at once, and after a kill", async () => {
  const dir = await dataFolder();
  let service = await spawnCloud(dir);
  const online = await RawClient.connect(service.mqttPort, { clientId: "GID_demo@@@1" });
  const topic = await holdfast("cloud", "topic", "add", "GW_NEW", "--ordered", "--data", dir);
  expect(topic).toMatchObject({ status: 0, err: expect.stringContaining("The service knows") });
  expect((await holdfast("cloud", "group", "add", "GID_new", "--data", dir)).status).toBe(0);
  const account = await holdfast("cloud", "account", "add", "AK2", "--data", dir);
  const secret = /^access_key = "AK2"\nsecret = "([^"]+)"\n$/.exec(account.out)?.[1] ?? "";

  const check = async (client: RawClient): Promise<void> => {
    await client.publishAcked("GW_NEW/x", "hello");
    const mq = new MqClient(service.httpPort, { accessKey: "AK2", secret });
    expect((await mq.drain("GW_NEW", "app")).length).toBeGreaterThan(0);
    await RawClient.connect(service.mqttPort, {
      clientId: "GID_new@@@1",
      username: "Signature|AK2|mqtt-local",
      password: makeConnectPassword(secret, "GID_new@@@1"),
    });
  };
  await check(online);
  expect(online.closed).toBe(false);
  await service.kill("SIGKILL");
  service = await spawnCloud(dir);
  await check(await RawClient.connect(service.mqttPort, { clientId: "GID_demo@@@1" }));
  expect(await readFile(join(dir, "cloud.toml"), "utf8")).toContain("# by hand");
  expect((await stat(join(dir, "cloud.toml"))).mode & 0o777).toBe(0o600);
});

it("twice is no error, and what cannot be is one", async () => {
  const dir = await dataFolder();
  await spawnCloud(dir);
  const config = ["--config", join(dir, "cloud.toml")];
  const again = await holdfast("cloud", "topic", "add", "GW_UP", ...config);
  expect(again).toMatchObject({ status: 0, err: expect.stringContaining("knew already") });
  const other = await holdfast("cloud", "topic", "add", "GW_UP", "--ordered", ...config);
  expect(other).toMatchObject({ status: 2, err: expect.stringContaining("is there already") });
  expect((await holdfast("cloud", "group", "add", "nogroup", ...config)).status).toBe(2);
  expect((await holdfast("cloud", "account", "add", "AK", ...config)).status).toBe(2);
  expect((await holdfast("cloud", "topic", "add", "GW_X")).status).toBe(2);
  expect((await holdfast("cloud", "topic")).status).toBe(2);
});

it("without a service it is in the configuration for the next start", async () => {
  const dir = await dataFolder();
  const added = await holdfast("cloud", "topic", "add", "GW_NEW", "--data", dir);
  expect(added).toMatchObject({ status: 0, err: expect.stringContaining("No service runs") });
  const service = await spawnCloud(dir);
  const client = await RawClient.connect(service.mqttPort, { clientId: "GID_demo@@@1" });
  await client.publishAcked("GW_NEW/x", "hello");
  await service.kill("SIGKILL");
  // The socket of a dead service is nobody's.
  const more = await holdfast("cloud", "topic", "add", "GW_MORE", "--data", dir);
  expect(more).toMatchObject({ status: 0, err: expect.stringContaining("No service runs") });
});

it("the socket is its owner's alone, in a folder of any length, and bounded", async () => {
  const dir = await dataFolder("x".repeat(120));
  const service = await spawnCloud(dir);
  expect((await stat(join(dir, "admin.sock"))).mode & 0o777).toBe(0o600);
  const added = await holdfast("cloud", "topic", "add", "GW_NEW", "--data", dir);
  expect(added).toMatchObject({ status: 0, err: expect.stringContaining("The service knows") });
  expect(await service.kill("SIGTERM")).toBe(0);

  const short = await dataFolder();
  await spawnCloud(short);
  for (const text of ["no json\n", `"${"x".repeat(100_000)}`, '{"kind":"topic","name":"a/b"}\n']) {
    const socket = connect({ path: join(short, "admin.sock") });
    let answer = "";
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      answer += chunk.toString();
    });
    socket.write(text);
    await once(socket, "close");
    expect(JSON.parse(answer)).toMatchObject({ error: { code: "request_invalid" } });
  }
  const still = await holdfast("cloud", "topic", "add", "GW_NEW", "--data", short);
  expect(still.err).toContain("The service knows");
});
