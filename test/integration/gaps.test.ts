/** I13, I1: what lanes let go in an outage reaches the service as one gap, and nothing else is lost. */
import { expect, test } from "vitest";
import { AgentProcess } from "../support/agent-process.ts";
import { DEVICE, online, putNumbers } from "../support/agent-suite.ts";
import { startOwnService } from "../support/broker-under-test.ts";
import { startProxy } from "../support/tcp-proxy.ts";
import { tempDir } from "../support/temp-dir.ts";
import { waitFor } from "../support/wait-for.ts";

test("an outage that overflows a lane, with a kill -9 in it, ends in one gap that counts it all", async () => {
  const broker = await startOwnService();
  const proxy = await startProxy(broker.port);
  const toml = `${broker.agentToml(DEVICE, proxy.port)}
[outbox.lanes.telemetry]
max_messages = 1000
payload = "cloudevents"
`;
  const agent = await AgentProcess.prepare(await tempDir(), toml);
  const sink = await broker.client("GID_demo@@@sink");
  const arrived = new Map<string, string>();
  const gaps: Record<string, unknown>[] = [];
  sink.on("message", (topic, payload) => {
    const body = JSON.parse(payload.toString());
    if (topic.startsWith("GW_UP/gap/")) gaps.push(body);
    else if (topic.startsWith("GW_UP/room/")) arrived.set(body.id, `${body.source} ${body.type}`);
  });
  await sink.subscribeAsync("GW_UP/#", { qos: 1 });
  proxy.cut();
  await agent.start();
  const accepted = new Set<string>();
  for (let first = 1; first < 3_000; first += 500) {
    if (first === 2_001) {
      await agent.kill();
      await agent.start();
    }
    await putNumbers(agent, first, 500, accepted);
  }
  proxy.mend();
  await online(agent);
  await waitFor(() => gaps.length > 0, { what: "the gap", guardMs: 60_000 });
  expect(accepted.size).toBe(3_000);
  expect(gaps).toHaveLength(1);
  expect(gaps[0]).toMatchObject({
    ...{ lane: "telemetry", reason: "full", exact: true },
    count: 3_000 - arrived.size,
  });
  expect(arrived.size).toBeLessThanOrEqual(1_000);
  expect(new Set(arrived.values())).toEqual(new Set([`/${DEVICE} holdfast.telemetry`]));
  expect(await agent.stop()).toBe(0);
}, 120_000);
