/**
 * The commander's subcommands against the local service, with a device of another make at the other
 * end: what is sent arrives, what is answered is found, now or days later, in this process or the
 * next.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { runCli } from "../../agent/cli/cli.ts";
import type { CliContext } from "../../agent/cli/subcommand.ts";
import { SystemClock } from "../../agent/core/system-clock.ts";
import { SystemRandom } from "../../agent/core/system-random.ts";
import { type StartedCloud, startCloud } from "../support/cloud.ts";
import { connectDevice } from "../support/fake-device.ts";
import { tempDir } from "../support/temp-dir.ts";
import { waitFor } from "../support/wait-for.ts";

const mainFile = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));

describe("send", () => {
  test("prints the reply of a device of which only the client id is known", async () => {
    const { cli, cloud } = await site();
    const device = await connectDevice({ port: cloud.mqttPort });
    const sent = await cli("send", "gw-01", "system.ping", "--params", '{"a":[1,"ü"]}');
    expect(sent).toMatchObject({ status: 0, stderr: "" });
    expect(sent.stdout).toMatch(/^succeeded after \d+ ms {2}GID_demo@@@gw-01 {2}system\.ping\n/);
    expect(sent.stdout).toContain('"pong": true');
    expect(device.seen).toMatchObject([{ command: "system.ping", params: { a: [1, "ü"] } }]);
  });

  test("--json prints the device's own object and nothing else", async () => {
    const { cli, cloud } = await site();
    await connectDevice({ port: cloud.mqttPort });
    const sent = await cli("send", "GID_demo@@@gw-01", "system.ping", "--json");
    expect(JSON.parse(sent.stdout)).toMatchObject({
      device: "GID_demo@@@gw-01",
      status: "succeeded",
      final: true,
      result: { pong: true },
    });
  });

  test("exits 1 for every other final reply and shows its error", async () => {
    const { cli, cloud } = await site();
    const device = await connectDevice({ port: cloud.mqttPort });
    for (const status of ["failed", "rejected", "expired", "cancelled", "interrupted"]) {
      const error = { code: "some_code", message: "Some \u001b[31mreason.", details: { n: 1 } };
      device.answer = () => [{ status, error }];
      const sent = await cli("send", "gw-01", "system.ping");
      expect(sent.status).toBe(1);
      expect(sent.stdout).toContain(status);
      expect(sent.stdout).toContain("some_code: Some ");
      expect(sent.stdout, "a terminal must not obey a device").not.toContain("\u001b");
    }
  });

  test("shows progress on stderr and repeats the same bytes to a busy device", async () => {
    const { cli, cloud } = await site();
    const device = await connectDevice({ port: cloud.mqttPort });
    device.answer = () =>
      device.seen.length === 1
        ? [{ status: "busy", retryAfterMs: 100 }]
        : [{ status: "accepted" }, { status: "running", progress: 50 }, { status: "succeeded" }];
    const sent = await cli("send", "gw-01", "system.ping", "--progress");
    expect(sent.status).toBe(0);
    expect(sent.stderr).toContain("busy, again in 100 ms\n");
    expect(sent.stderr).toContain("accepted\nrunning 50\n");
    expect(device.seen).toHaveLength(2);
    expect(device.seen[1]?.text).toBe(device.seen[0]?.text);
  });

  test("help lists the commands of the device", async () => {
    const { cli, cloud } = await site();
    const commands = [
      { command: "system.ping", summary: "Answers at once." },
      {
        command: "system.processes",
        summary: "What runs.",
        params: { type: "object", properties: { top: { type: "integer" } }, required: ["top"] },
      },
    ];
    const device = await connectDevice({ port: cloud.mqttPort });
    device.answer = () => [{ status: "succeeded", result: { commands, truncated: 2 } }];
    const { stdout, status } = await cli("send", "gw-01", "help");
    expect(status).toBe(0);
    expect(device.seen[0]?.command).toBe("agent.describe");
    expect(stdout).toContain("system.ping\n  Answers at once.\n");
    expect(stdout).toContain("  top: {type:integer} (required)\n");
    expect(stdout).toContain("2 more");
  });

  test("garbage, forgeries and contradictions from devices do not change the result", async () => {
    const { cli, cloud } = await site();
    const device = await connectDevice({ port: cloud.mqttPort });
    const evil = await connectDevice({ port: cloud.mqttPort, device: "evil" });
    device.answer = ({ id, from }) => {
      const forged = { v: 1, id, device: evil.clientId, at: 1, status: "failed", final: true };
      return [
        "garbage",
        new Uint8Array([0xff, 0xfe]),
        forged,
        { ...forged, device: "nobody" },
        { status: "succeeded", result: from },
        { status: "succeeded", result: from },
        { status: "failed", error: { code: "x", message: "y" } },
      ];
    };
    const sent = await cli("send", "gw-01", "system.ping", "--json");
    expect(sent.status).toBe(0);
    const { id, result } = JSON.parse(sent.stdout);
    expect(result).toBe("GID_demo@@@console-1");

    // The contradiction may come after the first call has ended: the next one collects it.
    device.answer = () => [{ status: "succeeded" }];
    await waitFor(async () => {
      await cli("send", "gw-01", "system.ping");
      return JSON.parse((await cli("runs", "show", id, "--json")).stdout).contradictions === 1;
    });
    expect((await cli("runs", "show", id)).stdout).toContain("contradicted by");
  });

  test("several at once on one machine each get their own answer", async () => {
    const { cli, cloud } = await site();
    const device = await connectDevice({ port: cloud.mqttPort });
    device.answer = ({ params }) => [{ status: "succeeded", result: params ?? null }];
    const sends = Array.from({ length: 6 }, (_, n) =>
      cli("send", "gw-01", "system.ping", "--params", `{"n":${n}}`, "--json"),
    );
    const results = (await Promise.all(sends)).map(({ stdout }) => JSON.parse(stdout).result.n);
    expect(results).toEqual([0, 1, 2, 3, 4, 5]);
    expect(new Set(device.seen.map(({ from }) => from)).size).toBe(6);
  });
});

describe("a device that is offline", () => {
  test("answers after it returns, and runs wait shows it", async () => {
    const { cli, cloud } = await site();
    await (await connectDevice({ port: cloud.mqttPort })).close();
    const sent = await cli("send", "gw-01", "system.ping", "--timeout", "0.5");
    expect(sent).toMatchObject({ status: 3, stdout: "" });
    const run = /runs wait (\w{26})/.exec(sent.stderr)?.[1] ?? "";
    expect((await cli("runs", "list")).stdout).toMatch(new RegExp(`${run} .* sent`));

    const waiting = cli("runs", "wait", run, "--json");
    await connectDevice({ port: cloud.mqttPort });
    const waited = await waiting;
    expect(waited.status).toBe(0);
    expect(JSON.parse(waited.stdout)).toMatchObject({ id: run, status: "succeeded" });
    expect((await cli("runs", "list", "--json")).stdout).toContain('"state":"ended"');
  });

  test("gets what was sent without waiting, and its answer waits for the commander", async () => {
    const { cli, cloud } = await site();
    await (await connectDevice({ port: cloud.mqttPort })).close();
    const sent = await cli("send", "gw-01", "system.ping", "--no-wait");
    expect(sent.status).toBe(0);
    const run = sent.stdout.trim();
    const device = await connectDevice({ port: cloud.mqttPort });
    await waitFor(() => device.seen.length === 1);
    await device.close();
    expect((await cli("runs", "wait", run)).status).toBe(0);
  });
});

describe("a commander that is killed", () => {
  test("leaves a run whose answer the next process finds, in the slot of the dead one", async () => {
    const { cli, cloud, dir, environment } = await site();
    const device = await connectDevice({ port: cloud.mqttPort, answer: () => [] });
    const child = startMain(["send", "gw-01", "system.ping"], environment);
    await waitFor(() => device.seen.length === 1);
    await ended(child, "SIGKILL");
    expect(await readdir(join(dir, "state", "holdfast", "slots"))).toHaveLength(1);

    const { id, from } = device.seen[0] ?? { id: "", from: "" };
    const reply = { v: 1, id, device: device.clientId, at: 1, status: "succeeded", final: true };
    await device.send(from, reply);
    expect((await cli("runs", "wait", id)).status).toBe(0);
    expect((await cli("runs", "resume", id)).status).toBe(0);
    expect(device.seen, "what has ended is not sent again").toHaveLength(1);
  });

  test("can send the same bytes again with resume", async () => {
    const { cli, cloud } = await site();
    const device = await connectDevice({ port: cloud.mqttPort, answer: () => [] });
    const sent = await cli("send", "gw-01", "system.ping", "--timeout", "0.3", "--json");
    const { run, state } = JSON.parse(sent.stdout);
    expect(state).toBe("sent");
    device.answer = () => [{ status: "succeeded" }];
    expect((await cli("runs", "resume", run)).status).toBe(0);
    expect(device.seen[1]?.text).toBe(device.seen[0]?.text);
  });
});

describe("as a program", () => {
  test("ends by itself with the status and leaves no lock", async () => {
    const { cloud, dir, environment } = await site();
    await connectDevice({ port: cloud.mqttPort });
    const child = startMain(["send", "gw-01", "system.ping", "--json"], environment);
    const stdout = collector();
    child.stdout?.on("data", stdout.write);
    expect(await ended(child)).toBe(0);
    expect(JSON.parse(stdout.text())).toMatchObject({ status: "succeeded" });
    expect(await readdir(join(dir, "state", "holdfast", "slots"))).toEqual([]);
  });
});

describe("what is wrong is said", () => {
  test.each([
    ["no such command form", ["send", "gw-01", "ping"], "PLUGIN.VERB"],
    ["params that are no JSON", ["send", "gw-01", "a.b", "--params", "{"], "--params"],
    ["params that are no object", ["send", "gw-01", "a.b", "--params", "[]"], "JSON object"],
    ["a file that is not there", ["send", "gw-01", "a.b", "--params", "@/none"], "/none"],
    ["a device with a slash", ["send", "a/b", "a.b"], "client id"],
  ])("%s: usage, exit 2", async (_, words, said) => {
    const { cli } = await site();
    const { status, stderr, stdout } = await cli(...words);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toContain(said);
  });

  test("no configuration: exit 2 with the path", async () => {
    const { cli, dir } = await site();
    const { status, stderr } = await cli(
      "send",
      "gw-01",
      "a.b",
      "--config",
      join(dir, "none.toml"),
    );
    expect(status).toBe(2);
    expect(stderr).toContain("none.toml");
  });

  test("a wrong secret: exit 1 at once, no secret in what is printed", async () => {
    const { cli } = await site({ secret: "WRONG-SECRET" });
    const { status, stderr } = await cli("send", "gw-01", "system.ping", "--timeout", "600");
    expect(status).toBe(1);
    expect(stderr).toContain("credentials_refused");
    expect(stderr).not.toContain("WRONG-SECRET");
  });

  test("no service: exit 3", async () => {
    const { cli, cloud } = await site();
    await cloud.stop();
    const { status, stderr } = await cli("send", "gw-01", "system.ping", "--timeout", "0.5");
    expect(status).toBe(3);
    expect(stderr).toContain("unreachable");
  });

  test("a parent topic that was not created: exit 1 with what to check", async () => {
    const { cli } = await site({ down: "NOT_CREATED" });
    const { status, stderr } = await cli("send", "gw-01", "system.ping");
    expect(status).toBe(1);
    expect(stderr).toContain("NOT_CREATED/p2p/");
  });
});

describe("presence", () => {
  test("says who is online, and what the account may not ask", async () => {
    const { cli, cloud } = await site();
    await connectDevice({ port: cloud.mqttPort });
    const all = await cli("presence", "gw-01", "gw-02", "--json");
    expect(all.status).toBe(0);
    expect(JSON.parse(all.stdout)).toEqual([
      { device: "GID_demo@@@gw-01", online: true, connections: 1, source: "status-query" },
      { device: "GID_demo@@@gw-02", online: false, connections: 0, source: "status-query" },
    ]);
    const foreign = await cli("presence", "GID_foreign@@@x", "gw-01", "--json");
    expect(foreign.status).toBe(1);
    expect(JSON.parse(foreign.stdout)).toMatchObject([
      { online: null, error: { code: "forbidden" } },
      { online: true },
    ]);
    expect((await cli("presence", "gw-01")).stdout).toMatch(/gw-01 +online +1 +status-query/);
  });

  test("without an account nobody knows", async () => {
    const { cli } = await site({ account: false });
    const { stdout, status } = await cli("presence", "gw-01", "--json");
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual([
      { device: "GID_demo@@@gw-01", online: null, connections: null, source: "none" },
    ]);
  });
});

interface Site {
  readonly cloud: StartedCloud;
  readonly dir: string;
  readonly environment: Record<string, string>;
  cli(...words: string[]): Promise<{ status: number; stdout: string; stderr: string }>;
}

/** A service, and a person's home with a commander.toml for it. */
async function site(
  options: { secret?: string; down?: string; account?: boolean } = {},
): Promise<Site> {
  const cloud = await startCloud({ timings: { offlineIntervalMs: 100, ackTimeoutMs: 400 } });
  const dir = await tempDir();
  const config = join(dir, "config", "holdfast");
  await mkdir(config, { recursive: true });
  const account = `[account]
access_key = "AK"
secret = "SK"
http = "http://127.0.0.1:${cloud.httpPort}"
`;
  await writeFile(
    join(config, "commander.toml"),
    `[device]
client_id = "GID_demo@@@console"
[service]
endpoints = ["mqtt://127.0.0.1:${cloud.mqttPort}"]
instance_id = "mqtt-local"
[service.reconnect]
min_ms = 20
[auth]
access_key = "AK"
secret = "${options.secret ?? "SK"}"
[topics]
down = "${options.down ?? "GW_DOWN"}"
${options.account === false ? "" : account}`,
    { mode: 0o600 },
  );
  const environment = {
    HOME: dir,
    XDG_CONFIG_HOME: join(dir, "config"),
    XDG_STATE_HOME: join(dir, "state"),
  };
  return { cloud, dir, environment, cli: (...words) => run(words, environment) };
}

async function run(words: readonly string[], env: Record<string, string>) {
  const [stdout, stderr] = [collector(), collector()];
  const stopping = new AbortController();
  onTestFinished(() => stopping.abort());
  const context: CliContext = {
    stdout,
    stderr,
    stdin: Object.assign((async function* () {})(), { isTty: false }),
    env,
    isTty: false,
    columns: 80,
    signal: stopping.signal,
    onHangup: () => () => undefined,
    clock: new SystemClock(),
    random: new SystemRandom(),
    version: "0.0.0",
  };
  const status = await runCli(words, context);
  return { status, stdout: stdout.text(), stderr: stderr.text() };
}

function collector() {
  const parts: string[] = [];
  return {
    write: (data: string | Uint8Array): void => void parts.push(String(data)),
    drained: async () => undefined,
    text: () => parts.join(""),
  };
}

function startMain(words: readonly string[], environment: Record<string, string>): ChildProcess {
  const child = spawn(process.execPath, [mainFile, ...words], {
    env: environment,
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void ended(child, "SIGKILL"));
  return child;
}

async function ended(child: ChildProcess, signal?: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  if (signal !== undefined) child.kill(signal);
  return exited;
}
