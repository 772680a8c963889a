/** One process of a schedule: store, outbox and forwarder from its start to its end. */
import { assert } from "../../agent/core/assert.ts";
import { type Logger, silentLog } from "../../agent/core/log.ts";
import {
  DurableOutbox,
  Forwarder,
  type LaneOptions,
  type Reservation,
} from "../../agent/outbox/outbox.ts";
import { DatabaseStore } from "../../agent/store/store.ts";
import type { FakeClock } from "../support/fake-clock.ts";
import type { MemoryVolatileLog } from "../support/memory-volatile-log.ts";
import type { SeededRandom } from "../support/seeded-random.ts";
import type { SimLink } from "../support/sim-link.ts";
import { CLIENT_ID } from "./envelope.ts";
import { GAP_TOPIC } from "./gap-reports.ts";
import type { LaneName, Lanes, Plan } from "./plan.ts";
import type { Tracked } from "./promises.ts";
import { ShareWatch } from "./share-watch.ts";
import type { SimDisk } from "./sim-disk.ts";

/** What a lane holds and what of it is in quarantine. */
export interface Holding {
  readonly messages: number;
  readonly bytes: number;
  readonly parked: number;
}

export interface Life {
  readonly number: number;
  /** Set at its end: what this process still says afterwards, nobody hears. */
  dead: boolean;
  readonly store: DatabaseStore;
  readonly outbox: DurableOutbox;
  readonly forwarder: Forwarder;
  readonly lanes: Lanes;
  readonly startedMs: number;
  readonly reservations: Reservation[];
  readonly waiting: Set<Tracked>;
  /** What each lane had at the start. */
  readonly base: Readonly<Record<string, Holding>>;
  /** What it had counted by then, by lane and reason. */
  readonly countedAtStart: ReadonlyMap<string, number>;
  /** Messages that a crash left in their lane and in quarantine. */
  readonly copies: number;
  /** What it says about what went, by lane and reason. */
  readonly counted: Map<string, number>;
  readonly put: Tracked[];
  readonly acknowledged: Set<string>;
  readonly arrived: Set<string>;
  readonly shares: ShareWatch;
  /** Of which something was in quarantine. */
  readonly parkedTopics: Set<string>;
  /** First sendings in this life, in their order. */
  readonly sent: Map<string, { readonly order: number; readonly packetId: number }>;
  /** Gives the forwarder its next link; undefined: there is none. */
  offer(link: SimLink | undefined): void;
}

export interface LifeParts {
  readonly dir: string;
  readonly plan: Plan;
  readonly lanes: Lanes;
  readonly number: number;
  readonly boot: number;
  readonly disk: SimDisk;
  readonly volatile: MemoryVolatileLog;
  readonly clock: FakeClock;
  readonly random: SeededRandom;
  readonly log: (part: string) => Logger;
}

const ACK_TIMEOUT_MS = 2_000;
const TIDY_MS = 1_000;
/** Reports of gaps have a lane of their own here, so that all others can be counted. */
const GAP_LANE: LaneOptions = {
  ...{ priority: 2, maxMessages: 10_000, maxBytes: 1e9, ttlMs: 0, whenFull: "refuse" },
};
export async function startLife(parts: LifeParts): Promise<Life> {
  const { plan, lanes, disk, clock, random } = parts;
  const store = new DatabaseStore(
    { dir: parts.dir },
    {
      openDatabase: disk.open,
      random,
      log: parts.log("store"),
      probe: () => disk.probe(),
      repair: () => Promise.resolve(),
    },
  );
  await store.start();
  const outbox = new DurableOutbox(
    {
      lanes: { ...lanes, gap: GAP_LANE },
      persistDelayMs: plan.persistDelayMs,
      settleEvery: plan.settleEvery,
      checkTopic: () => undefined,
      bootId: `boot ${parts.boot}`,
      clientId: CLIENT_ID,
      gaps: { topic: GAP_TOPIC, lane: "gap" },
    },
    { store, volatileLog: parts.volatile.open(), clock, random, log: silentLog },
  );
  await outbox.start();
  const { connected, offer } = door();
  const forwarder = new Forwarder(
    { window: plan.window, maxRate: 0, ackTimeoutMs: ACK_TIMEOUT_MS },
    { outbox, connected, clock, log: silentLog },
  );
  await forwarder.start();
  const twice = await copies(outbox);
  const life: Life = {
    ...{ number: parts.number, dead: false, store, outbox, forwarder, lanes, offer },
    ...{ startedMs: clock.monotonicMs(), reservations: [], waiting: new Set() },
    ...{ base: holdings(outbox), copies: twice, put: [] },
    ...{ counted: new Map(), countedAtStart: countsOf(outbox) },
    ...{ acknowledged: new Set(), arrived: new Set(), sent: new Map(), parkedTopics: new Set() },
    shares: new ShareWatch(lanes),
  };
  void tidyNowAndThen(life, clock);
  return life;
}

/** As the agent's job does. */
async function tidyNowAndThen(life: Life, clock: FakeClock): Promise<void> {
  // Its own: what never wakes would be held by one that all share.
  const never = new AbortController().signal;
  for (;;) {
    await clock.sleep(TIDY_MS, never);
    if (life.dead) return;
    await life.outbox.tidy();
  }
}

function holdings(outbox: DurableOutbox): Record<string, Holding> {
  const { lanes, quarantined } = outbox.stats();
  const held: Record<string, Holding> = {};
  for (const [lane, { messages, bytes }] of Object.entries(lanes)) {
    held[lane] = { messages, bytes, parked: 0 };
  }
  const items = quarantined === 0 ? [] : outbox.quarantine.list(undefined, 1e6).items;
  for (const { lane } of items) {
    const { messages = 0, bytes = 0, parked = 0 } = held[lane] ?? {};
    held[lane] = { messages, bytes, parked: parked + 1 };
  }
  return held;
}

/** What a process says of how many messages of a lane went for a reason, since its start. */
export function countsOf(outbox: DurableOutbox): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [lane, { dropped, replaced = 0 }] of Object.entries(outbox.stats().lanes)) {
    for (const [reason, count] of Object.entries(dropped)) counts.set(`${lane} ${reason}`, count);
    if (replaced > 0) counts.set(`${lane} replaced`, replaced);
  }
  return counts;
}

async function copies(outbox: DurableOutbox): Promise<number> {
  if (outbox.stats().quarantined === 0) return 0;
  const parked = new Set(outbox.quarantine.list(undefined, 1e6).items.map(({ id }) => id));
  const { items } = await outbox.list(undefined, 1e6);
  return items.filter(({ id }) => parked.has(id)).length;
}

/** The way in which the forwarder of one process gets its links. */
function door() {
  let current: SimLink | undefined;
  let wake: (() => void) | undefined;
  const connected = async (signal: AbortSignal): Promise<SimLink | undefined> => {
    while (!current && !signal.aborted) {
      await new Promise<void>((resolve) => {
        wake = resolve;
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
    const link = current;
    current = undefined;
    return signal.aborted ? undefined : link;
  };
  const offer = (link: SimLink | undefined): void => {
    current = link;
    wake?.();
  };
  return { connected, offer };
}

/** What came less what went is what is there. */
export function checkAccounts(life: Life, laneOf: (text: string) => LaneName | undefined): void {
  for (const [name, now] of Object.entries(holdings(life.outbox))) {
    if (name === "gap") continue;
    const base = life.base[name] ?? { messages: 0, parked: 0 };
    let expected = 0;
    let perhaps = 0;
    for (const message of life.put) {
      if (message.lane !== name) continue;
      if (message.state !== "refused" || life.arrived.has(message.text)) expected++;
      // Refused after it was taken: it will be sent, and is ours until then.
      else perhaps++;
    }
    for (const text of life.acknowledged) if (laneOf(text) === name) expected--;
    for (const [key, count] of life.counted) {
      if (key.startsWith(`${name} `)) expected -= count - (life.countedAtStart.get(key) ?? 0);
    }
    // One that gave way to a newer one is refused with that one, and counts as replaced.
    // One on its way to quarantine is ours as one in flight is.
    const few = name !== "state" && life.outbox.stats().quarantined === 0;
    const refused = few ? Math.min(perhaps, life.forwarder.inFlight) : perhaps;
    const change = now.messages + now.parked - base.messages - base.parked;
    assert(
      change >= expected - life.copies && change <= expected + refused,
      `${name} has ${change} messages more than at the start, it should be ${expected}`,
    );
  }
}
