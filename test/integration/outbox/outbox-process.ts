/**
 * An outbox over the real database as a process of its own, to be killed. What it says goes to a
 * file, line by line and at once, so that a kill takes back nothing that was said.
 *
 * `fill DIR FROM COUNT`: puts offline, says `accepted <text> <id>` for each receipt.
 * `drain DIR WINDOW LEAVE`: sends what is there, says `received <text> <id> <topic>`, then `done`;
 * with LEAVE it stops when so many are left and waits for its kill.
 * `memory DIR COUNT [TOGETHER]`: puts and says `heap <messages> <bytes>` now and then; without syncs,
 * which cost nothing but time here.
 */
import { appendFileSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { silentLog } from "../../../agent/core/log.ts";
import { SystemClock } from "../../../agent/core/system-clock.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { DurableOutbox, Forwarder } from "../../../agent/outbox/outbox.ts";
import {
  DatabaseStore,
  FileVolatileLog,
  type KeyValueOpener,
  openLevel,
} from "../../../agent/store/store.ts";
import { heldMemory } from "../../support/held-memory.ts";
import { SimLink } from "../../support/sim-link.ts";

const [mode, dir, ...rest] = process.argv.slice(2) as [string, string, ...string[]];
const [first = 0, second = 0] = rest.map(Number);
const clock = new SystemClock();
const random = new SystemRandom();
const said = openSync(join(dir, "said"), "a");
const say = (line: string): void => {
  writeSync(said, `${line}\n`);
};

const openUnsynced: KeyValueOpener = async (directory, options) => {
  const database = await openLevel(directory, options);
  return { ...database, batch: (operations) => database.batch(operations, { sync: false }) };
};
const store = new DatabaseStore(
  { dir: join(dir, "state") },
  { openDatabase: mode === "memory" ? openUnsynced : openLevel, random, log: silentLog },
);
await store.start();
const volatileLog = new FileVolatileLog(
  { dir: join(dir, "run"), identity: () => `${store.id} one boot` },
  (error) => say(`notes failed ${error}`),
);
const lane = {
  priority: 5,
  maxMessages: 1e9,
  maxBytes: 1e12,
  ttlMs: 0,
  whenFull: "refuse",
} as const;
const outbox = new DurableOutbox(
  {
    lanes: { telemetry: lane },
    persistDelayMs: 50,
    settleEvery: 4_096,
    checkTopic: () => undefined,
    bootId: "one boot",
  },
  { store, volatileLog, clock, random, log: silentLog },
);
const startedMs = clock.monotonicMs();
await outbox.start();
say(`started ${Math.round(clock.monotonicMs() - startedMs)}`);

if (mode === "fill") await fill(first, second);
else if (mode === "drain") await drain(first, second);
else await measure(first, second || 2_000);
await outbox.stop(new AbortController().signal);
await store.stop();
say("done");

async function fill(from: number, count: number): Promise<void> {
  const together = 50;
  for (let i = 0; i < count; i += together) {
    const puts = Array.from({ length: Math.min(together, count - i) }, async (_, n) => {
      const text = String(from + i + n);
      const topic = `up/${(from + i + n) % 3}`;
      const { id } = await outbox.put({ topic, payload: Buffer.from(text), lane: "telemetry" });
      say(`accepted ${text} ${id}`);
    });
    await Promise.all(puts);
  }
}

async function drain(window: number, leave: number): Promise<void> {
  const link = new SimLink(({ text, id, topic }) => say(`received ${text} ${id} ${topic}`));
  let given = false;
  const connected = (signal: AbortSignal): Promise<SimLink | undefined> => {
    if (!given) {
      given = true;
      return Promise.resolve(link);
    }
    return new Promise((resolve) => {
      signal.addEventListener("abort", () => resolve(undefined), { once: true });
    });
  };
  const forwarder = new Forwarder(
    { window, maxRate: 0 },
    { outbox, connected, clock, log: silentLog },
  );
  await forwarder.start();
  while ((outbox.stats().lanes["telemetry"]?.messages ?? 0) > leave) {
    for (let n = Math.ceil(random.float() * window); n > 0; n--) link.ack();
    await nextTurn();
  }
  if (leave > 0) await clock.sleep(Number.POSITIVE_INFINITY, new AbortController().signal);
  await forwarder.stop();
}

async function measure(count: number, together: number): Promise<void> {
  const payload = Buffer.alloc(200, 7);
  for (let i = 0; i < count; i += together) {
    await Promise.all(
      Array.from({ length: together }, () =>
        outbox.put({ topic: "up/t", payload, lane: "telemetry" }),
      ),
    );
    if ((i + together) % Math.max(10_000, 10 * together) !== 0) continue;
    appendFileSync(join(dir, "said"), `heap ${i + together} ${heldMemory()}\n`);
  }
}
