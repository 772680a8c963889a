/** Admitting commands on a slow disk must not hold up what goes out (design: acknowledge after the
 * journal, never inside the reader). */
import { fileURLToPath } from "node:url";
import type { MqttClient } from "mqtt";
import { expect, test } from "vitest";
import { AgentProcess } from "../support/agent-process.ts";
import {
  CONSOLE,
  collectFinals,
  DEVICE,
  drained,
  online,
  putNumbers,
  sendCommand,
} from "../support/agent-suite.ts";
import { startOwnService } from "../support/broker-under-test.ts";
import { startProxy } from "../support/tcp-proxy.ts";
import { tempDir } from "../support/temp-dir.ts";
import { waitFor } from "../support/wait-for.ts";

const SYNC_MS = 10;
const BACKLOG = 30_000;
const BATCH = 10_000;
const COMMANDS_A_SECOND = 200;
const script = fileURLToPath(new URL("../support/slow-disk-agent.ts", import.meta.url));

test("with every sync 10 ms slower and 200 commands/s the drain keeps half of its rate", async ({
  annotate,
}) => {
  const broker = await startOwnService();
  const proxy = await startProxy(broker.port);
  const toml = broker.agentToml(DEVICE, proxy.port);
  const agent = await AgentProcess.prepare(await tempDir(), toml, (config) => [
    script,
    config,
    String(SYNC_MS),
  ]);
  const commander = await broker.client(CONSOLE);
  const finals = await collectFinals(commander);
  await agent.start();
  await online(agent);

  let sent = 0;
  const drainMs = async (withCommands: boolean): Promise<number> => {
    proxy.cut();
    for (let first = 1; first < BACKLOG; first += BATCH) {
      await putNumbers(agent, first, BATCH, new Set());
    }
    proxy.mend();
    await online(agent);
    const stream = withCommands ? startCommands(commander, () => `c-${sent++}`) : undefined;
    const began = performance.now();
    await drained(agent);
    const took = performance.now() - began;
    await stream?.stop();
    await waitFor(() => finals.size === sent, { what: "the replies" });
    return took;
  };
  const alone: number[] = [];
  const beside: number[] = [];
  for (let round = 0; round < 5; round++) {
    alone.push(await drainMs(false));
    beside.push(await drainMs(true));
  }
  const ratio = median(alone) / median(beside);
  const figures =
    `drain of ${BACKLOG}: alone ${alone.map(Math.round)} ms, beside commands ` +
    `${beside.map(Math.round)} ms, ${sent} commands, ratio ${ratio.toFixed(2)}`;
  await annotate(figures);
  expect(sent, figures).toBeGreaterThan(100);
  expect(ratio, figures).toBeGreaterThanOrEqual(0.5);
}, 120_000);

function startCommands(commander: MqttClient, nextId: () => string): { stop(): Promise<void> } {
  const sending: Promise<void>[] = [];
  const began = performance.now();
  let count = 0;
  const timer = setInterval(() => {
    const due = ((performance.now() - began) / 1_000) * COMMANDS_A_SECOND;
    for (; count < due; count++) sending.push(sendCommand(commander, nextId(), "system.ping"));
  }, 5);
  return {
    stop: async () => {
      clearInterval(timer);
      await Promise.all(sending);
    },
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}
