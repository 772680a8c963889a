/**
 * An outbox over the real database as a process of its own, to be killed at any moment. What it says
 * goes to a file, line by line and at once, so that a kill takes back nothing that was said.
 * `process.ts MODE DIR FROM`: `offline` puts without a link, `online` puts and sends, `drain` sends
 * what is there and ends.
 */
import { openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { silentLog } from "../../../agent/core/log.ts";
import { SystemClock } from "../../../agent/core/system-clock.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { DurableOutbox, Forwarder } from "../../../agent/outbox/outbox.ts";
import { DatabaseStore, FileVolatileLog, openLevel } from "../../../agent/store/store.ts";
import { SimLink } from "../sim-link.ts";
import { SETTLE_EVERY, TOPICS, WINDOW } from "./table.ts";

const [mode = "", dir = "", from = "0"] = process.argv.slice(2);
const TOGETHER = 50;
const MOST_WAITING = 400;
const clock = new SystemClock();
const random = new SystemRandom();
const said = openSync(join(dir, "said"), "a");
const say = (line: string): void => {
  writeSync(said, `${line}\n`);
};

const store = new DatabaseStore(
  { dir: join(dir, "state") },
  { openDatabase: openLevel, random, log: silentLog },
);
await store.start();
const volatileLog = new FileVolatileLog(
  { dir: join(dir, "run"), identity: () => `${store.id} one boot` },
  (error) => say(`notes failed ${error}`),
);
const outbox = new DurableOutbox(
  {
    lanes: {
      telemetry: {
        ...{ priority: 5, maxMessages: 1e9, maxBytes: 1e12, ttlMs: 0, whenFull: "refuse" },
      },
    },
    ...{ persistDelayMs: 50, settleEvery: SETTLE_EVERY, bootId: "one boot" },
    checkTopic: () => undefined,
  },
  { store, volatileLog, clock, random, log: silentLog },
);
await outbox.start();
const link = new SimLink(({ text, id, topic }) => say(`received ${text} ${id} ${topic}`));
let isGiven = mode === "offline";
const connected = (signal: AbortSignal): Promise<SimLink | undefined> => {
  if (!isGiven) {
    isGiven = true;
    return Promise.resolve(link);
  }
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
};
const forwarder = new Forwarder(
  { window: WINDOW, maxRate: 0 },
  { outbox, connected, clock, log: silentLog },
);
await forwarder.start();

if (mode === "drain") {
  while ((outbox.stats().lanes["telemetry"]?.messages ?? 0) > 0) await acknowledgeSome();
  await forwarder.stop();
  await outbox.stop(new AbortController().signal);
  await store.stop();
} else {
  let waiting = 0;
  for (let text = Number(from); ; ) {
    for (let n = 0; n < TOGETHER && waiting < MOST_WAITING; n++) {
      waiting++;
      void put(text++).then(() => waiting--);
    }
    await acknowledgeSome();
  }
}

async function put(text: number): Promise<void> {
  const topic = TOPICS[text % TOPICS.length] as string;
  const payload = Buffer.from(String(text));
  const { id } = await outbox.put({ topic, payload, lane: "telemetry" });
  say(`accepted ${text} ${id}`);
}

async function acknowledgeSome(): Promise<void> {
  for (let n = Math.ceil(random.float() * WINDOW); n > 0; n--) link.ack();
  await nextTurn();
}
