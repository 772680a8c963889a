/** One run of job E with a power cut: a scripted schedule of the simulation, from a seed. */
import { OutboxWorld } from "../../simulation/outbox-world.ts";
import type { Lanes, Plan, PlannedMessage, Timed } from "../../simulation/plan.ts";
import { SeededRandom } from "../seeded-random.ts";
import { type LinkState, type RunFigures, SETTLE_EVERY, TOPICS, WINDOW } from "./table.ts";

const roomy = { maxMessages: 100_000, maxBytes: 1e9, ttlMs: 0, whenFull: "refuse" } as const;
const lanes: Lanes = { telemetry: { priority: 5, ...roomy } };

/**
 * The simulation throws for a message that is lost or out of order, and for one that comes again
 * without a reason or beyond the window and `settle_every`: then this does.
 */
export async function powerRun(seed: number, link: LinkState): Promise<RunFigures> {
  const random = new SeededRandom(seed);
  const steps = link === "offline" ? offline(random) : online(random);
  const plan: Plan = {
    ...{ seed, window: WINDOW, settleEvery: SETTLE_EVERY, persistDelayMs: 50, lanes },
    bigPayloads: false,
    steps: [...steps, { step: { do: "restart", how: "power", lanes }, thenMs: 10 }],
  };
  const { accepted, duplicates } = await new OutboxWorld(plan).run();
  return { accepted, duplicates, lost: 0, outOfOrder: 0 };
}

/** Cut while messages are being written. */
function offline(random: SeededRandom): Timed[] {
  return [
    { step: { do: "slow-sync", ms: random.int(40) }, thenMs: 0 },
    ...rounds(5 + random.int(10), () => [put(random)]),
  ];
}

/** Cut while a backlog drains and new messages come. */
function online(random: SeededRandom): Timed[] {
  return [
    ...rounds(10, () => [put(random)]),
    { step: { do: "slow-sync", ms: random.int(40) }, thenMs: 200 },
    { step: { do: "connect" }, thenMs: 1 },
    ...rounds(2 + random.int(12), () => [put(random), acknowledge(random)]),
  ];
}

function rounds(count: number, make: () => Timed[]): Timed[] {
  return Array.from({ length: count }, make).flat();
}

function put(random: SeededRandom): Timed {
  const messages = Array.from({ length: 20 + random.int(40) }, (): PlannedMessage => {
    const topic = TOPICS[random.int(TOPICS.length)] as string;
    return { lane: "telemetry", topic, bytes: 256, ttlMs: undefined, key: undefined, twice: false };
  });
  return { step: { do: "put", messages }, thenMs: random.int(20) };
}

function acknowledge(random: SeededRandom): Timed {
  const places = Array.from({ length: random.int(2 * WINDOW) }, () => 0);
  return { step: { do: "ack", places }, thenMs: random.int(6) };
}
