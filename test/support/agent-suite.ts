/**
 * What the whole agent must show over a real broker, whichever it is: the same suite runs against
 * our own service (quick tier) and against Mosquitto (system tier).
 */
import type { MqttClient } from "mqtt";
import { describe, expect, type TestContext, test } from "vitest";
import { encodeCommand } from "../../agent/protocol/envelope.ts";
import { isFinal, parseReply } from "../../agent/protocol/reply.ts";
import { AgentProcess } from "./agent-process.ts";
import type { BrokerUnderTest } from "./broker-under-test.ts";
import { SeededRandom } from "./seeded-random.ts";
import { startTally, type Tally } from "./tally.ts";
import { startProxy, type TcpProxy } from "./tcp-proxy.ts";
import { tempDir } from "./temp-dir.ts";
import { waitFor } from "./wait-for.ts";

export interface SuiteOptions {
  readonly name: string;
  start(): Promise<BrokerUnderTest>;
  /** Why it cannot run here; undefined where it can. */
  readonly whyNot?: () => string | undefined;
}

export const DEVICE = "GID_demo@@@gw-01";
export const CONSOLE = "GID_demo@@@console";
const WINDOW = 64;
const GUARD_MS = 120_000;

interface World {
  readonly broker: BrokerUnderTest;
  readonly proxy: TcpProxy;
  readonly agent: AgentProcess;
}

export function agentSuite({ name, start, whyNot }: SuiteOptions): void {
  describe(`the agent over ${name}`, { timeout: GUARD_MS + 30_000 }, () => {
    const build = async (context: TestContext): Promise<World> => {
      const reason = whyNot?.();
      if (reason !== undefined) context.skip(reason);
      const broker = await start();
      const proxy = await startProxy(broker.port);
      const toml = broker.agentToml(DEVICE, proxy.port);
      return { broker, proxy, agent: await AgentProcess.prepare(await tempDir(), toml) };
    };

    test("10,000 messages accepted offline with a kill -9 in the middle all arrive, in order", async (context) => {
      const { broker, proxy, agent } = await build(context);
      const tally = await startTally(await broker.client("GID_demo@@@sink"), "GW_UP/room/+");
      proxy.cut();
      await agent.start();
      const accepted = new Set<string>();
      let next = 1;
      for (let round = 0; round < 10; round++) {
        const answer = putNumbers(agent, next, 1_000, accepted);
        if (round === 5) {
          // Some of this batch may be on disk, unanswered.
          const unanswered = expect(answer).rejects.toThrow();
          await agent.kill();
          await unanswered;
          await agent.start();
        } else {
          await answer;
        }
        next += 1_000;
      }
      expect(accepted.size).toBe(9_000);
      expect(tally.seen.size).toBe(0);
      const before = proxy.connections;
      proxy.mend();
      await allArrive(tally, accepted);
      expect(tally.outOfOrder).toBe(0);
      // Nothing was sent before, so the first connection repeats nothing; on a machine that is too
      // busy for it there may be a second one.
      expect(tally.duplicates).toBeLessThanOrEqual((proxy.connections - before - 1) * WINDOW);
      await drained(agent);
      expect(await agent.stop()).toBe(0);
    });

    test("a stream under cuts and kills arrives whole, in order, repeated by the window at most", async (context) => {
      const { broker, proxy, agent } = await build(context);
      const tally = await startTally(await broker.client("GID_demo@@@sink"), "GW_UP/room/+");
      await agent.start();
      await online(agent);
      const random = new SeededRandom(7);
      const accepted = new Set<string>();
      let next = 1;
      let breaks = 0;
      for (let round = 0; round < 40; round++) {
        await putNumbers(agent, next, 100, accepted);
        next += 100;
        const dice = random.float();
        if (dice < 0.2) {
          breaks++;
          proxy.cut();
          await putNumbers(agent, next, 100, accepted);
          next += 100;
          proxy.mend();
        } else if (dice < 0.3) {
          breaks++;
          await agent.kill();
          await agent.start();
        }
      }
      await allArrive(tally, accepted);
      await drained(agent);
      expect(breaks).toBeGreaterThan(5);
      expect(tally.outOfOrder).toBe(0);
      expect(tally.duplicates).toBeLessThanOrEqual(breaks * WINDOW);
    });

    test("200 commands with kill -9 at random moments each get one distinct final reply", async (context) => {
      const { broker, agent } = await build(context);
      const commander = await broker.client(CONSOLE);
      const finals = await collectFinals(commander);
      await agent.start();
      await online(agent);
      const random = new SeededRandom(11);
      const ids: string[] = [];
      for (let i = 0; i < 200; i++) {
        ids.push(`c-${i}`);
        const command = i % 3 === 0 ? "system.metrics" : "system.info";
        await sendCommand(commander, `c-${i}`, command);
        if (random.chance(0.05)) {
          await agent.kill();
          await agent.start();
        }
      }
      await waitFor(() => ids.every((id) => finals.has(id)), {
        what: "a final reply to every command",
        guardMs: GUARD_MS,
      });
      await drained(agent);
      const distinct = ids.map((id) => finals.get(id)?.size);
      expect(distinct).toEqual(ids.map(() => 1));
      const statuses = ids.map((id) => JSON.parse([...(finals.get(id) ?? [])][0] ?? "{}").status);
      expect(new Set(statuses)).toContain("succeeded");
      expect(statuses.filter((s) => s !== "succeeded" && s !== "interrupted")).toEqual([]);
    });

    test("a device without a broker accepts and stores; when there is one, all of it arrives", async (context) => {
      const { broker, proxy, agent } = await build(context);
      proxy.cut();
      const tally = await startTally(await broker.client("GID_demo@@@sink"), "GW_UP/room/+");
      await agent.start();
      const accepted = new Set<string>();
      await putNumbers(agent, 1, 10, accepted);
      expect(accepted.size).toBe(10);
      const { connection, outbox } = await agent.status();
      expect(connection.state).not.toBe("online");
      expect(outbox.lanes["telemetry"]?.messages).toBe(10);
      expect(await agent.stop()).toBe(0);
      await agent.start();
      proxy.mend();
      await allArrive(tally, accepted);
    });

    test("what cannot be read or is not allowed is answered by the rules and hurts nothing", async (context) => {
      const { broker, agent } = await build(context);
      const commander = await broker.client(CONSOLE);
      const finals = await collectFinals(commander);
      await agent.start();
      await online(agent);
      const topic = `GW_DOWN/p2p/${DEVICE}`;
      const unreadable = [
        Buffer.from([0xff, 0xfe, 0x00]),
        Buffer.from("not json"),
        Buffer.from("[".repeat(5_000)),
        Buffer.alloc(60_000, 0x20),
        Buffer.from('{"v":1,"id":"x"}'),
      ];
      for (const payload of unreadable) await commander.publishAsync(topic, payload, { qos: 1 });
      await sendCommand(commander, "unknown", "system.nothing");
      await sendCommand(commander, "params", "system.processes", { top: "many" });
      await sendCommand(commander, "unlisted", "exec.run");
      await sendCommand(commander, "good", "system.ping");
      await waitFor(() => finals.size === 4, { what: "four final replies" });
      const code = (id: string): unknown =>
        JSON.parse([...(finals.get(id) ?? [])][0] ?? "{}").error?.code;
      expect(code("unknown")).toBe("command_unknown");
      expect(code("params")).toBe("params_invalid");
      expect(code("unlisted")).toBe("signature_required");
      expect(code("good")).toBeUndefined();
      expect((await agent.status()).connection.state).toBe("online");
    });
  });
}

export async function putNumbers(
  agent: AgentProcess,
  first: number,
  count: number,
  accepted: Set<string>,
): Promise<void> {
  const numbers = Array.from({ length: count }, (_, i) => String(first + i));
  const lines = numbers.map((payload) => ({ topic: `room/${Number(payload) % 2}`, payload }));
  const { results } = await agent.batch(lines);
  for (const { line, id } of results) {
    if (id !== undefined) accepted.add(numbers[line - 1] as string);
  }
}

async function allArrive(tally: Tally, accepted: ReadonlySet<string>): Promise<void> {
  await waitFor(() => [...accepted].every((text) => tally.seen.has(text)), {
    what: "every accepted message",
    guardMs: GUARD_MS,
  });
}

export async function online(agent: AgentProcess): Promise<void> {
  await waitFor(async () => (await agent.status()).connection.state === "online", {
    what: "the agent to be online",
  });
}

export async function drained(agent: AgentProcess): Promise<void> {
  let last = "";
  await waitFor(
    async () => {
      const { connection, outbox } = await agent.status();
      last = JSON.stringify({ connection, outbox });
      const { lanes, inFlight } = outbox;
      return inFlight === 0 && Object.values(lanes).every(({ messages }) => messages === 0);
    },
    { what: "an empty outbox" },
  ).catch((cause: unknown) => {
    throw new Error(`the outbox did not drain: ${last}`, { cause });
  });
}

/** Distinct final replies by command id, as they arrive. */
export async function collectFinals(commander: MqttClient): Promise<Map<string, Set<string>>> {
  const finals = new Map<string, Set<string>>();
  commander.on("message", (_topic, payload) => {
    const reply = parseReply(payload);
    if (!isFinal(reply.status)) return;
    const known = finals.get(reply.id) ?? new Set();
    finals.set(reply.id, known.add(payload.toString()));
  });
  // Where P2P needs no subscription this one changes nothing.
  await commander.subscribeAsync(`GW_DOWN/p2p/${CONSOLE}`, { qos: 1 });
  return finals;
}

export async function sendCommand(
  commander: MqttClient,
  id: string,
  command: string,
  params: Record<string, string | number> = {},
): Promise<void> {
  const now = Date.now();
  const payload = encodeCommand({
    id,
    to: DEVICE,
    from: CONSOLE,
    command,
    params,
    issuedAt: now,
    expiresAt: now + 600_000,
  });
  await commander.publishAsync(`GW_DOWN/p2p/${DEVICE}`, Buffer.from(payload), { qos: 1 });
}
