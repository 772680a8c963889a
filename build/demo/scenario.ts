/**
 * The story of the demo, one step after the other: start, telemetry, a command, an outage with a
 * kill -9 in it, the return, the accounts. Nothing is staged but the misfortune: service, agent and
 * commander are the programs that an operator runs.
 */
import { join } from "node:path";
import { ControlClient, type StatusReport } from "../../agent/control/control.ts";
import { SystemClock } from "../../agent/core/system-clock.ts";
import { Auditor } from "./auditor.ts";
import { FragileLink } from "./fragile-link.ts";
import { DemoFailure, type Life } from "./life.ts";
import { machineReader } from "./metrics.ts";
import type { Narrator } from "./narrator.ts";
import { Producer } from "./producer.ts";
import type { Program, Programs } from "./programs.ts";
import { accountOf, type CloudReady, portOf, type Stage, textOf } from "./stage.ts";
import { type Result, Tally } from "./tally.ts";

export interface Scene {
  readonly life: Life;
  readonly narrator: Narrator;
  readonly programs: Programs;
  readonly stage: Stage;
}

/** What runs at the end of the story. */
export interface Cast {
  readonly result: Result;
  readonly device: string;
  readonly producer: Producer;
  readonly status: () => Promise<StatusReport>;
  /** Told of every message that arrives at the auditor. */
  onArrival(listener: (topic: string, payload: Buffer) => void): void;
}

const TOPIC = "demo/metrics";
const TELEMETRY_MS = 50;
const ONLINE_MS = 5_000;
const CUT_MS = 3_000;
const DEAD_MS = 1_500;
const AFTER_HEAL_MS = 1_000;
/** Guards against hangs; on a slow machine the steps take their time. */
const START_LIMIT_MS = 30_000;
const RETURN_LIMIT_MS = 30_000;
const DRAIN_LIMIT_MS = 60_000;

/** What must be closed at the end, in the order of opening. */
export type Closers = (() => Promise<void> | void)[];

export async function play(scene: Scene, closers: Closers): Promise<Cast> {
  const { life, narrator, programs, stage } = scene;
  const tally = new Tally();
  const listeners: ((topic: string, payload: Buffer) => void)[] = [];

  const ready = await startService(scene);
  const { port } = new URL(`tcp://${ready.mqtt}`);
  const up = textOf(ready.agent, "up");
  const device = textOf(ready.agent, "client_id");
  const auditor = await openAuditor(ready, up, (topic, payload) => {
    if (topic === `${up}/${TOPIC}`) tally.arrive(numberOf(payload));
    for (const listener of listeners) listener(topic, payload);
  });
  closers.push(() => auditor.close());
  narrator.tell("auditor", `a client of its own, subscribed to ${up}/# at the service: it counts`);

  const link = await FragileLink.open(Number(port));
  closers.push(() => link.close());
  stage.writeConfigs(ready, link.port);
  const client = new ControlClient(
    { dir: stage.controlDir },
    { clock: new SystemClock(), signal: life.signal },
  );
  const status = () => client.status();
  let agent = await startAgent(scene);
  await untilOnline(scene, { status, agent });
  narrator.tell("agent", `online as ${device} (process ${agent.pid}), by way of a link we can cut`);

  const read = machineReader();
  const producer = new Producer(
    {
      socketPath: join(stage.controlDir, "producer.sock"),
      topic: TOPIC,
      payload: (number) => JSON.stringify({ number, ...read() }),
    },
    TELEMETRY_MS,
    life,
    tally,
  );
  closers.push(() => producer.close());
  producer.start();
  narrator.tell("producer", `sends this machine's metrics, one message every ${TELEMETRY_MS} ms`);
  await life.sleep(ONLINE_MS);
  const { accepted, delivered } = tally.result();
  narrator.detail(`${accepted} accepted by the agent, ${delivered} arrived at the service`);

  await sendCommand(scene, device);

  link.cut();
  narrator.tell("link", "cut: every connection is reset, every new one refused");
  await life.until(
    async () => ((await status()).connection.state !== "online" ? true : undefined),
    {
      what: "the agent notices the cut",
      limitMs: RETURN_LIMIT_MS,
      program: agent,
    },
  );
  await life.sleep(CUT_MS);
  const queued = telemetryOf(await status());
  narrator.tell("agent", `offline, and telemetry goes on: ${queued} messages wait on disk`);

  agent.kill();
  await agent.exited;
  narrator.tell("agent", `kill -9 in the middle of the outage (process ${agent.pid} is gone)`);
  await life.sleep(DEAD_MS);
  narrator.tell(
    "producer",
    `${producer.waiting} messages not accepted; it keeps them and tries on`,
  );
  agent = await startAgent(scene);
  const found = await life.until(async () => telemetryOf(await status()), {
    what: "the agent answers again",
    limitMs: START_LIMIT_MS,
    program: agent,
  });
  narrator.tell("agent", `started again (process ${agent.pid}): ${found} messages in its store`);
  await life.sleep(CUT_MS);

  const tries = link.refused;
  link.heal();
  narrator.tell("link", `healed, after ${tries} attempts of the agent to get through`);
  await untilOnline(scene, { status, agent });
  narrator.tell("agent", "online again, and sends what waited");
  await life.sleep(AFTER_HEAL_MS);
  await producer.finish();
  narrator.tell("producer", "stops; what is still queued drains");
  await drain(scene, { status, tally, agent, auditor });
  const result = tally.result();
  return { result, device, producer, status, onArrival: (listener) => listeners.push(listener) };

  function startAgent({ stage }: Scene): Promise<Program> {
    const words = stage.holdfast("run", "--config", stage.agentFile);
    return programs.start({ name: "the agent", words, env: stage.env });
  }
}

async function startService({ programs, stage, life, narrator }: Scene): Promise<CloudReady> {
  const ports = ["--mqtt-port", "auto", "--http-port", "auto"];
  const words = stage.holdfast("cloud", "--data", stage.cloudDir, ...ports, "--json");
  const service = await programs.start({ name: "the service", words, env: stage.env });
  const line = await life.until(() => service.stdout[0], {
    what: "the service is ready",
    limitMs: START_LIMIT_MS,
    program: service,
  });
  const ready = JSON.parse(line) as CloudReady;
  narrator.tell("service", `ready on ${ready.mqtt} (holdfast cloud, process ${service.pid})`);
  return ready;
}

function openAuditor(
  { mqtt, agent }: CloudReady,
  up: string,
  arrived: (topic: string, payload: Buffer) => void,
): Promise<Auditor> {
  const [group] = textOf(agent, "client_id").split("@@@");
  const clientId = `${group}@@@auditor`;
  return Auditor.connect({ port: portOf(mqtt), clientId, up, arrived, ...accountOf(agent) });
}

interface Watched {
  readonly status: () => Promise<StatusReport>;
  readonly agent: Program;
}

async function untilOnline({ life }: Scene, { status, agent }: Watched): Promise<void> {
  await life.until(
    async () => ((await status()).connection.state === "online" ? true : undefined),
    {
      what: "the agent is online",
      limitMs: RETURN_LIMIT_MS,
      program: agent,
    },
  );
}

async function sendCommand({ programs, stage, narrator }: Scene, device: string): Promise<void> {
  const args = ["send", device, "system.info"];
  narrator.tell("commander", `holdfast ${args.join(" ")}`);
  const words = stage.holdfast(...args);
  const reply = await programs.run({ name: "holdfast send", words, env: stage.env });
  narrator.detail(reply);
}

/**
 * Until all that was accepted has arrived and the agent has nothing left that it could send again;
 * then until the auditor has seen what the service had. Too late is not an error: the accounts say
 * what is missing.
 */
async function drain(
  { life }: Scene,
  { status, tally, agent, auditor }: Watched & { readonly tally: Tally; readonly auditor: Auditor },
): Promise<void> {
  const isDrained = async () => {
    const report = await status();
    return telemetryOf(report) === 0 && report.outbox.inFlight === 0 && tally.result().lost === 0;
  };
  try {
    await life.until(async () => ((await isDrained()) ? true : undefined), {
      what: "everything has arrived",
      limitMs: DRAIN_LIMIT_MS,
      program: agent,
    });
  } catch (error) {
    if (life.signal.aborted || !(error instanceof DemoFailure)) throw error;
  }
  await auditor.barrier("drained");
}

export function telemetryOf({ outbox }: StatusReport): number {
  return outbox.lanes["telemetry"]?.messages ?? 0;
}

function numberOf(payload: Buffer): number {
  const { number } = JSON.parse(payload.toString()) as { readonly number: number };
  return number;
}
