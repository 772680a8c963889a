/** What a stranger does: start the service, paste what it prints, send a command. Only the program. */
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { AgentProcess } from "../support/agent-process.ts";
import { online } from "../support/agent-suite.ts";
import { spawnCloud } from "../support/cloud-process.ts";
import { tempDir } from "../support/temp-dir.ts";

const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** `holdfast ARGS` with a home folder of its own. */
function holdfast(home: string, args: readonly string[]): Promise<Ended> {
  const env = { PATH: process.env["PATH"], HOME: home };
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { env }, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr });
    });
  });
}

test("the printed sections run an agent and a commander; an offline device answers later", async () => {
  const home = await tempDir();
  const cloud = await spawnCloud(join(home, "cloud"));
  const [, agentSection = "", commanderSection = ""] =
    /# For an agent.*?\n\n(.*?)# For a commander.*?\n\n(.*?)^ready /ms.exec(cloud.output()) ?? [];
  const commander = join(home, "commander.toml");
  await writeFile(commander, commanderSection, { mode: 0o600 });
  const send = (...args: string[]) => holdfast(home, ["send", "--config", commander, ...args]);

  // Nobody is there yet: the command waits at the service, and the run is told by its name.
  const early = await send("gw-01", "system.ping", "--timeout", "1", "--json");
  expect(early.code, early.stderr).toBe(3);
  const { run } = JSON.parse(early.stdout) as { run: string };
  expect(early.stderr).toContain(`runs wait ${run}`);

  const agent = await AgentProcess.prepare(home, agentSection);
  await agent.start();
  await online(agent);

  const info = await send("gw-01", "system.info", "--json");
  expect(info.code, info.stderr).toBe(0);
  const reply = JSON.parse(info.stdout) as { status: string; result: { clientId: string } };
  expect(reply.status).toBe("succeeded");
  expect(reply.result.clientId).toBe("GID_demo@@@gw-01");

  const waited = await holdfast(home, ["runs", "wait", run, "--config", commander, "--json"]);
  expect(waited.code, waited.stderr).toBe(0);
  expect(JSON.parse(waited.stdout)).toMatchObject({ id: run, status: "succeeded" });

  const refused = await send("gw-01", "exec.run", "--json");
  expect(refused.code).toBe(1);
  expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: "signature_required" } });

  const presence = await holdfast(home, ["presence", "gw-01", "--config", commander, "--json"]);
  expect(JSON.parse(presence.stdout)).toMatchObject([{ device: "GID_demo@@@gw-01", online: true }]);
  expect(await agent.stop()).toBe(0);
  expect(await cloud.kill("SIGTERM")).toBe(0);
});
