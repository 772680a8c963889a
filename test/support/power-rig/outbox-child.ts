/**
 * An outbox on a disk whose power will be cut, as a process of its own.
 *
 * `work STATE RUN MARKS SEED FROM`: puts, sends and settles for a while; writes into MARKS, at once,
 * `accepted N ID`, `received N ID TOPIC` and `acknowledged N` as they happen, `ready` first.
 * `check STATE RUN MARKS`: starts over what a power cut left and sends all of it; writes `received N
 * ID TOPIC` for each and at the end `state {...}`.
 */
import { openSync, writeSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { silentLog } from "../../../agent/core/log.ts";
import { SystemClock } from "../../../agent/core/system-clock.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { DurableOutbox, Forwarder } from "../../../agent/outbox/outbox.ts";
import { DatabaseStore, FileVolatileLog, openLevel } from "../../../agent/store/store.ts";
import { SeededRandom } from "../seeded-random.ts";
import { SimLink } from "../sim-link.ts";
import { SETTLE_EVERY, WINDOW } from "./bounds.ts";

const [mode, dir, run, ...rest] = process.argv.slice(2) as [string, string, string, ...string[]];
const never = new AbortController().signal;
const clock = new SystemClock();
const random = new SystemRandom();
const marks = openSync(rest[0] as string, "w");
const say = (line: string): void => {
  writeSync(marks, `${line}\n`);
};

const store = new DatabaseStore(
  { dir, ballastBytes: 256 * 1024 },
  { openDatabase: openLevel, random, log: silentLog },
);
await store.start();
const volatileLog = new FileVolatileLog(
  { dir: run, identity: () => `${store.id} ${run}` },
  (error) => {
    throw error;
  },
);
const lane = {
  maxMessages: 1e6,
  maxBytes: 1e9,
  ttlMs: 0,
  whenFull: "refuse",
} as const;
const outbox = new DurableOutbox(
  {
    lanes: { alarm: { ...lane, priority: 1 }, telemetry: { ...lane, priority: 5 } },
    persistDelayMs: 20,
    settleEvery: SETTLE_EVERY,
    checkTopic: () => undefined,
    bootId: run,
  },
  { store, volatileLog, clock, random, log: silentLog },
);
await outbox.start();
let offered: SimLink | undefined;
let wake = (): void => undefined;
const forwarder = new Forwarder(
  { window: WINDOW, maxRate: 0 },
  {
    outbox,
    clock,
    log: silentLog,
    connected: async (signal) => {
      while (!offered && !signal.aborted) {
        await new Promise<void>((resolve) => {
          wake = resolve;
          signal.addEventListener("abort", () => resolve(), { once: true });
        });
      }
      const link = offered;
      offered = undefined;
      return link;
    },
  },
);
await forwarder.start();
if (mode === "work") await work(new SeededRandom(Number(rest[1])), Number(rest[2]));
else await check();
await forwarder.stop();
await outbox.stop(never);
await store.stop();

function connect(): SimLink {
  offered = new SimLink(({ text, id, topic }) => say(`received ${Number(text)} ${id} ${topic}`));
  wake();
  return offered;
}

function left(): number {
  const { lanes } = outbox.stats();
  return Object.values(lanes).reduce((sum, { messages }) => sum + messages, 0);
}

async function work(dice: SeededRandom, from: number): Promise<void> {
  say("ready");
  let number = from;
  const put = async (): Promise<void> => {
    const text = String(++number).padStart(dice.chance(0.02) ? 20_000 : 256, "0");
    const name = dice.chance(0.2) ? "alarm" : "telemetry";
    const topic = `up/${name}/${dice.int(3)}`;
    const { id } = await outbox.put({ topic, payload: Buffer.from(text), lane: name });
    say(`accepted ${Number(text)} ${id}`);
  };
  for (let round = 0; round < 6; round++) {
    for (let burst = dice.int(12); burst >= 0; burst--) {
      await Promise.all(Array.from({ length: 1 + dice.int(60) }, put));
    }
    const link = connect();
    const keep = dice.chance(0.3) ? 0 : dice.int(left() + 1);
    const online: Promise<void>[] = [];
    while (left() > keep) {
      for (let n = dice.int(24); n > 0 && link.unacked.length > 0; n--) {
        const message = link.ack(dice.chance(0.9) ? 0 : dice.int(link.unacked.length));
        if (message) say(`acknowledged ${Number(message.text)}`);
      }
      if (dice.chance(0.1)) online.push(put());
      await (dice.chance(0.1) ? clock.sleep(dice.int(30), never) : nextTurn());
    }
    link.close("peer_closed");
    await Promise.all(online);
  }
}

async function check(): Promise<void> {
  const { state, salvage, damaged } = store;
  const found = left();
  const writable = await outbox
    .put({ topic: "up/after", payload: Buffer.from("0"), lane: "alarm" })
    .then(({ safe }) => safe);
  const link = connect();
  while (left() > 0) {
    while (link.ack());
    await nextTurn();
  }
  const dropped = Object.values(outbox.stats().lanes).map((one) => one.dropped);
  say(`state ${JSON.stringify({ state, salvage, damaged, found, writable, dropped })}`);
}
