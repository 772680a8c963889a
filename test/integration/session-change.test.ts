/** `clean_session` changed under a client id that the service knows: the program, from outside. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { AgentProcess } from "../support/agent-process.ts";
import { online } from "../support/agent-suite.ts";
import { spawnCloud } from "../support/cloud-process.ts";
import { tempDir } from "../support/temp-dir.ts";

const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));
const CHANGED = ["--set", "service.clean_session=true"];

test("is refused with exit status 2, until it is accepted once", async () => {
  const home = await tempDir();
  const cloud = await spawnCloud(join(home, "cloud"));
  const [, section = ""] =
    /# For an agent.*?\n\n(.*?)# For a commander/ms.exec(cloud.output()) ?? [];
  const agent = await AgentProcess.prepare(home, section, (config) => {
    return [main, "run", "--config", config, ...flags];
  });
  let flags: readonly string[] = [];
  await agent.start();
  await online(agent);
  expect(await agent.stop()).toBe(0);

  const refused = await new Promise<{ code: unknown; stderr: string }>((resolve) => {
    const args = [main, "run", "--config", agent.config, ...CHANGED];
    execFile(process.execPath, args, (error, _stdout, stderr) => {
      resolve({ code: error?.code, stderr });
    });
  });
  expect(refused.code, refused.stderr).toBe(2);
  expect(refused.stderr).toContain("service.clean_session is true");
  expect(refused.stderr).toContain("--accept-session-change");

  flags = [...CHANGED, "--accept-session-change"];
  await agent.start();
  await online(agent);
  expect(await agent.stop()).toBe(0);

  flags = CHANGED;
  await agent.start();
  await online(agent);
});
