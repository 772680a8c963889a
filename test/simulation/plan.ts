/** What happens in one schedule, as data made from a seed, so that it can be printed and cut down. */
import type { Close } from "../../agent/core/message.ts";
import { SeededRandom } from "../support/seeded-random.ts";

/** `state` keeps only the latest message of a key. */
export type LaneName = "alarm" | "event" | "telemetry" | "state";

export interface PlannedLane {
  readonly priority: number;
  readonly maxMessages: number;
  readonly maxBytes: number;
  readonly ttlMs: number;
  readonly whenFull: "drop-oldest" | "refuse";
  readonly share?: number;
  readonly keep?: "latest";
  readonly payload?: "cloudevents";
}

export type Lanes = Readonly<Partial<Record<LaneName, PlannedLane>>>;

export interface PlannedMessage {
  readonly lane: LaneName;
  readonly topic: string;
  /** Of the payload. */
  readonly bytes: number;
  readonly ttlMs: number | undefined;
  readonly key: string | undefined;
  /** Put a second time with the same producer id. */
  readonly twice: boolean;
}

export type Step =
  | { readonly do: "put"; readonly messages: readonly PlannedMessage[] }
  | { readonly do: "reserve"; readonly lane: LaneName; readonly bytes: number }
  | { readonly do: "release" }
  /** A message whose write joins a commit of the caller's, with a reservation if there is one. */
  | { readonly do: "stage"; readonly message: PlannedMessage; readonly abandon: boolean }
  /** `places` in the broker's list of what it has not acknowledged, one after the other. */
  | { readonly do: "ack"; readonly places: readonly number[] }
  | { readonly do: "connect" }
  | { readonly do: "close"; readonly reason: Close["reason"] }
  /** For so long the service acknowledges by itself and the link comes back by itself. */
  | { readonly do: "lively"; readonly ms: number; readonly resets: number }
  /** The service closes the connection on this topic; undefined: it takes all again. */
  | { readonly do: "forbid"; readonly topic: string | undefined }
  | { readonly do: "retry-parked" }
  | { readonly do: "make-room"; readonly bytes: number }
  | { readonly do: "fail-once"; readonly what: "write" | "sync" }
  | { readonly do: "full"; readonly ms: number }
  | { readonly do: "unreadable"; readonly ms: number }
  | { readonly do: "unopenable"; readonly ms: number }
  | { readonly do: "slow-sync"; readonly ms: number }
  | { readonly do: "restart"; readonly how: "clean" | "kill" | "power"; readonly lanes: Lanes }
  | { readonly do: "copy-state" }
  | { readonly do: "put-back-copy" }
  | { readonly do: "jump-wall"; readonly ms: number }
  | { readonly do: "trust"; readonly trusted: boolean };

export interface Plan {
  readonly seed: number;
  readonly window: number;
  readonly settleEvery: number;
  readonly persistDelayMs: number;
  readonly lanes: Lanes;
  /** There are payloads as large as many turns of a lane. */
  readonly bigPayloads: boolean;
  /** Each with the time that passes after it. */
  readonly steps: readonly Timed[];
}

export interface Timed {
  readonly step: Step;
  readonly thenMs: number;
}

const STEPS = 60;
const YEAR_MS = 365 * 86_400_000;
const LANES = ["alarm", "event", "telemetry"] as const;
const REFUSABLE = ["up/a/alarm", "up/b/event", "up/a/telemetry"] as const;
const REASONS = [
  "network",
  "peer_closed",
  "ack_timeout",
  "keepalive",
  "takeover",
  "protocol",
] as const;

export function planOf(seed: number): Plan {
  const random = new SeededRandom(Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995);
  const planner = new Planner(random);
  return {
    seed,
    window: pick(random, [1, 3, 8, 8, 8]),
    settleEvery: pick(random, [2, 8, 16, 16]),
    persistDelayMs: pick(random, [0, 50, 50, 50, 200]),
    lanes: planner.lanes(),
    bigPayloads: planner.bigPayloads,
    steps: planner.steps(),
  };
}

/** Each schedule leans its own way, so that rare things also come in numbers. */
class Planner {
  readonly #random: SeededRandom;
  readonly bigPayloads: boolean;
  /** The topic that the service refuses in this schedule, if it does. */
  readonly #refused: string | undefined;
  /** How likely a publish is to reset the link while the service is lively. */
  readonly #resets: number;
  readonly #shortLives: boolean;
  readonly #cloudEvents: boolean;
  /** Events and telemetry are of one priority. */
  readonly #equalLanes: boolean;
  /** It has a few sequences that chance alone seldom makes. */
  readonly #isScripted: boolean;
  readonly #lanes: readonly LaneName[];
  readonly #weights: readonly (readonly [weight: number, make: () => Step])[];

  constructor(random: SeededRandom) {
    this.#random = random;
    this.bigPayloads = random.chance(0.1);
    this.#shortLives = random.chance(0.3);
    this.#lanes = random.chance(0.3) ? [...LANES, "state"] : LANES;
    this.#cloudEvents = random.chance(0.2);
    this.#isScripted = random.chance(0.2);
    this.#equalLanes = random.chance(0.15);
    this.#refused = random.chance(0.15) ? pick(random, REFUSABLE) : undefined;
    this.#resets = random.chance(0.1) ? 0.3 : 0;
    const isLively = this.#refused !== undefined || this.#resets > 0 || random.chance(0.1);
    const often = (weight: number): number => (random.chance(0.6) ? weight : 0);
    const { int } = { int: (bound: number) => random.int(bound) };
    this.#weights = [
      [40, () => ({ do: "put", messages: this.#messages(1 + int(random.chance(0.1) ? 40 : 6)) })],
      [28, () => ({ do: "ack", places: this.#places() })],
      [10, () => ({ do: "connect" })],
      [6, () => ({ do: "close", reason: pick(random, REASONS) })],
      [often(8), () => ({ do: "stage", message: this.#message(), abandon: random.chance(0.15) })],
      [often(3), () => ({ do: "reserve", lane: this.#lane(), bytes: 100 + int(400) })],
      [often(2), () => ({ do: "release" })],
      [isLively ? 8 : 0, () => this.#lively()],
      [this.#refused ? 6 : 0, () => this.#forbid()],
      [this.#refused ? 1 : 0, () => ({ do: "retry-parked" })],
      [random.chance(0.1) ? 3 : 0, () => ({ do: "make-room", bytes: int(3_000) })],
      [often(3), () => ({ do: "fail-once", what: pick(random, ["write", "sync"]) })],
      [often(2), () => ({ do: "full", ms: int(3_000) })],
      [often(2), () => ({ do: "unreadable", ms: int(2_000) })],
      [often(1), () => ({ do: "unopenable", ms: int(2_000) })],
      [often(3), () => ({ do: "slow-sync", ms: int(120) })],
      [often(3), () => this.#restart("kill")],
      [often(3), () => this.#restart("power")],
      [often(2), () => this.#restart("clean")],
      [random.chance(0.1) ? 3 : 0, () => ({ do: "copy-state" })],
      [random.chance(0.1) ? 3 : 0, () => ({ do: "put-back-copy" })],
      [often(3), () => ({ do: "jump-wall", ms: Math.round((random.float() - 0.5) * 4 * YEAR_MS) })],
      [often(2), () => ({ do: "trust", trusted: random.chance(0.5) })],
    ];
  }

  steps(): Timed[] {
    const random = this.#random;
    const steps: Timed[] = [];
    while (steps.length < STEPS) {
      if (this.#isScripted && random.chance(0.06)) {
        steps.push(
          ...pick(random, [() => this.#race(), () => this.#oldCopy(), () => this.#rush()])(),
        );
        continue;
      }
      const step = this.#step();
      const restMs = random.chance(0.05) ? random.int(5_000) : random.int(40);
      steps.push({ step, thenMs: step.do === "lively" ? step.ms : restMs });
    }
    return steps;
  }

  /** Acknowledged while its record is written, which may fail; then others get its number. */
  #race(): Timed[] {
    const { int } = { int: (bound: number) => this.#random.int(bound) };
    return [
      { step: { do: "lively", ms: 400, resets: 0 }, thenMs: 400 },
      { step: { do: "slow-sync", ms: 60 + int(60) }, thenMs: 0 },
      ...(int(3) > 0 ? [{ step: { do: "fail-once", what: "sync" } as const, thenMs: 0 }] : []),
      { step: { do: "put", messages: this.#messages(1 + int(4)) }, thenMs: 20 + int(60) },
      { step: { do: "ack", places: [0, 0, 0, 0, 0, 0, 0, 0] }, thenMs: int(20) },
      ...(int(3) === 0 ? [{ step: this.#restart("kill"), thenMs: 0 }] : []),
      { step: { do: "close", reason: "network" }, thenMs: 700 },
      { step: { do: "put", messages: this.#messages(1 + int(4)) }, thenMs: 150 },
      { step: this.#restart("kill"), thenMs: 0 },
    ];
  }

  /** An old copy of the state comes back, and its numbers are given a second time. */
  #oldCopy(): Timed[] {
    const count = 1 + this.#random.int(4);
    return [
      { step: { do: "copy-state" }, thenMs: 0 },
      { step: { do: "put", messages: this.#messages(count) }, thenMs: 300 },
      { step: { do: "connect" }, thenMs: 10 },
      { step: { do: "ack", places: [0, 0, 0, 0, 0, 0, 0, 0] }, thenMs: 10 },
      { step: { do: "put-back-copy" }, thenMs: 10 },
      { step: { do: "put", messages: this.#messages(count) }, thenMs: 150 },
      { step: this.#restart("kill"), thenMs: 10 },
    ];
  }

  /** Far more is acknowledged than a slow disk can note, and the power goes. */
  #rush(): Timed[] {
    const acks = Array.from({ length: 8 }, (): Timed => {
      return { step: { do: "ack", places: [0, 0, 0, 0, 0, 0, 0, 0] }, thenMs: 1 };
    });
    return [
      { step: { do: "close", reason: "network" }, thenMs: 10 },
      { step: { do: "put", messages: this.#messages(50) }, thenMs: 1_500 },
      { step: { do: "slow-sync", ms: 120 }, thenMs: 0 },
      { step: { do: "connect" }, thenMs: 1 },
      ...acks,
      { step: this.#restart("power"), thenMs: 0 },
    ];
  }

  #step(): Step {
    const total = this.#weights.reduce((sum, [weight]) => sum + weight, 0);
    let dice = this.#random.int(total);
    for (const [weight, make] of this.#weights) {
      dice -= weight;
      if (dice < 0) return make();
    }
    throw new Error("the dice fell off the table");
  }

  lanes(): Lanes {
    const random = this.#random;
    const bounds = (): Pick<PlannedLane, "maxMessages" | "maxBytes"> =>
      pick(random, [
        { maxMessages: 100_000, maxBytes: 1e9 },
        { maxMessages: 20 + random.int(40), maxBytes: 1e9 },
        { maxMessages: 100_000, maxBytes: 1_000 + random.int(5_000) },
      ]);
    const whenFull = pick(random, ["drop-oldest", "refuse"] as const);
    const equals = this.#equalLanes;
    return {
      alarm: { priority: 1, ...bounds(), ttlMs: 0, whenFull: "refuse" },
      event: {
        ...(equals ? { priority: 5, share: 1 + random.int(3) } : { priority: 3 }),
        ...bounds(),
        ttlMs: this.#shortLives ? 500 + random.int(4_000) : 86_400_000,
        whenFull,
      },
      telemetry: {
        ...{
          priority: 5,
          ...bounds(),
          ttlMs: 0,
          whenFull: "drop-oldest",
          share: 1 + random.int(3),
        },
        ...(this.#cloudEvents && { payload: "cloudevents" }),
      },
      state: { priority: 5, ...bounds(), ttlMs: 0, whenFull, share: 1, keep: "latest" },
    };
  }

  #lively(): Step {
    const { int } = { int: (bound: number) => this.#random.int(bound) };
    return { do: "lively", ms: 200 + int(int(2) === 0 ? 1_000 : 15_000), resets: this.#resets };
  }

  #forbid(): Step {
    return { do: "forbid", topic: this.#random.chance(0.7) ? this.#refused : undefined };
  }

  #restart(how: "clean" | "kill" | "power"): Step {
    const lanes: { -readonly [name in LaneName]?: PlannedLane } = { ...this.lanes() };
    if (this.#random.chance(0.1)) delete lanes[this.#lane()];
    return { do: "restart", how, lanes };
  }

  #lane(): LaneName {
    return pick(this.#random, this.#lanes);
  }

  #messages(count: number): PlannedMessage[] {
    return Array.from({ length: count }, () => this.#message());
  }

  #message(): PlannedMessage {
    const random = this.#random;
    const lane = this.#lane();
    const key = random.chance(lane === "state" ? 0.9 : 0.1) ? `key ${random.int(3)}` : undefined;
    return {
      lane,
      topic: `up/${lane === "state" ? (key ?? "none") : pick(random, ["a", "b"])}/${lane}`,
      bytes: 10 + random.int(this.bigPayloads ? 60_000 : this.#equalLanes ? 1_000 : 200),
      ttlMs: this.#shortLives && random.chance(0.1) ? 100 + random.int(3_000) : undefined,
      key,
      twice: random.chance(0.05),
    };
  }

  #places(): number[] {
    const random = this.#random;
    return Array.from({ length: random.int(9) }, () => (random.chance(0.8) ? 0 : random.int(8)));
  }
}

function pick<T>(random: SeededRandom, from: readonly T[]): T {
  return from[random.int(from.length)] as T;
}
