/**
 * Ours as a process: store, outbox, forwarder and session as agent.ts builds them, and the
 * producers' socket. `worker-ours.ts DIR PORT SYNC_DELAY_MS WINDOW`, asked over IPC. A delay of
 * `none` leaves the syncs out.
 */
import { join } from "node:path";
import { passwordAuthenticator, Session } from "../../agent/connection/connection.ts";
import { Control, type StatusReport } from "../../agent/control/control.ts";
import { silentLog } from "../../agent/core/log.ts";
import { SystemClock } from "../../agent/core/system-clock.ts";
import { SystemRandom } from "../../agent/core/system-random.ts";
import { DurableOutbox, Forwarder } from "../../agent/outbox/outbox.ts";
import {
  DatabaseStore,
  FileVolatileLog,
  type KeyValueOpener,
  openLevel,
} from "../../agent/store/store.ts";
import { StoreWatch } from "../../agent/wiring/store-watch.ts";
import { WATCH_EVERY_MS } from "../../agent/wiring/watch.ts";
import { acceptAll, acceptSteadily } from "./drive.ts";
import { answerQuestions } from "./ipc.ts";
import { PAYLOAD_BYTES, Payloads } from "./payloads.ts";

const [dir = "", port = "0", syncDelayMs = "0", window = "64"] = process.argv.slice(2);
const TOPIC = "GW_UP/t";
const clock = new SystemClock();
const random = new SystemRandom();
const log = silentLog;
const life = new AbortController();
let syncs = 0;

/** Counts the syncs, and makes each of them slower when asked to. */
const openDatabase: KeyValueOpener = async (directory, options) => {
  const database = await openLevel(directory, options);
  return {
    ...database,
    batch: async (operations, { sync }) => {
      if (sync) syncs++;
      await database.batch(operations, { sync: sync && syncDelayMs !== "none" });
      if (sync && Number(syncDelayMs) > 0) await clock.sleep(Number(syncDelayMs), life.signal);
    },
  };
};

const store = new DatabaseStore({ dir }, { openDatabase, random, log });
await store.start();
const volatileLog = new FileVolatileLog(
  { dir: join(dir, "run"), identity: () => `${store.id} one boot` },
  (error) => {
    throw error;
  },
);
let outbox = newOutbox();
await outbox.start();
const session = new Session(
  {
    clientId: "bench",
    endpoints: [`mqtt://127.0.0.1:${port}`],
    profile: "mqtt",
    keepaliveS: 90,
    cleanSession: false,
    connectTimeoutMs: 30_000,
    ackTimeoutMs: 30_000,
    reconnect: { minMs: 50, maxMs: 200, refusedMinMs: 200, takeoverMinMs: 200 },
    subscriptions: [],
    inboundBound: { messages: 1_000, bytes: 1_000_000 },
    maxPayloadBytes: 65_536,
  },
  { clock, random, log, authenticator: passwordAuthenticator() },
);
const forwarder = new Forwarder(
  { window: Number(window), maxRate: 0 },
  { outbox, connected: (signal) => session.connected(signal), clock, log },
);
const control = new Control(
  { dir: join(dir, "run"), up: "GW_UP" },
  {
    ports: {
      put: (message) => outbox.put(message),
      status: () => ({}) as StatusReport,
      health: () => ({ ok: true, reasons: [] }),
      lists: {},
    },
    clock,
    log,
  },
);

/** Compacts when the agent would. */
let watch = newWatch();
void (async () => {
  while (!life.signal.aborted) {
    await clock.sleep(WATCH_EVERY_MS, life.signal);
    await watch.look();
  }
})();

function newWatch(): StoreWatch {
  return new StoreWatch({
    ...{ store, outbox, clock, log },
    alarms: { raise: () => undefined, clear: () => undefined },
    onRecoverable: () => undefined,
  });
}

/** Bounds that hold what the jobs put in; everything else as the agent has it by default. */
function newOutbox(): DurableOutbox {
  return new DurableOutbox(
    {
      lanes: {
        telemetry: {
          priority: 5,
          maxMessages: 10_000_000,
          maxBytes: 10_000_000_000,
          ttlMs: 0,
          whenFull: "refuse",
        },
      },
      persistDelayMs: 100,
      settleEvery: 4_096,
      checkTopic: () => undefined,
      bootId: "one boot",
    },
    { store, volatileLog, clock, random, log },
  );
}

const accept = (payload: Uint8Array): Promise<unknown> =>
  outbox.put({ topic: TOPIC, payload, lane: "telemetry" });
const put = (load: Parameters<typeof acceptAll>[0]): Promise<number> => acceptAll(load, accept);

answerQuestions({
  accept: put,
  steadily: (load: Parameters<typeof acceptSteadily>[0]) => acceptSteadily(load, accept),
  /** One put at a time on the bare database, each with its own sync. */
  acceptBare: async ({ count }: { count: number }) => {
    const source = new Payloads("random");
    const database = await openDatabase(join(dir, "bare"), { createIfMissing: true });
    const start = performance.now();
    for (let i = 0; i < count; i++) {
      const key = `m/${String(i).padStart(10, "0")}`;
      await database.batch([{ key, value: source.make(i) }], { sync: true });
    }
    const ms = performance.now() - start;
    await database.close();
    return ms;
  },
  connect: async () => {
    await session.start(life.signal);
    await forwarder.start();
    while (session.state !== "online") await clock.sleep(5, life.signal);
  },
  openSocket: async () => {
    await control.start(life.signal);
    return join(dir, "run", "producer.sock");
  },
  stats: async () => {
    const { persisted, elided, lanes } = outbox.stats();
    const waiting = lanes["telemetry"]?.messages ?? 0;
    const storeBytes = await store.size();
    return { persisted, elided, waiting, syncs, storeBytes, givenBytes: store.bytesWritten };
  },
  compact: () => store.compact("outbox"),
  /** Everything settled is noted in the database. */
  settled: async () => {
    while ((outbox.stats().lanes["telemetry"]?.messages ?? 0) > 0) {
      await clock.sleep(20, life.signal);
    }
    await clock.sleep(1_500, life.signal);
  },
  /** How long a new outbox over the same store takes to be able to give its first message. */
  findHead: async () => {
    await forwarder.stop();
    await session.stop(AbortSignal.timeout(1_000));
    await acceptAll({ count: 32, payloads: "random", callers: 32 }, accept);
    await outbox.stop(AbortSignal.timeout(10_000));
    outbox = newOutbox();
    const start = performance.now();
    await outbox.start();
    const batch = await outbox.take({ messages: 1, bytes: PAYLOAD_BYTES }, life.signal);
    const ms = performance.now() - start;
    watch = newWatch();
    if (batch.count !== 1) throw new Error("There is no head.");
    return ms;
  },
  stop: async () => {
    await forwarder.stop();
    await session.stop(AbortSignal.timeout(1_000));
    await outbox.stop(AbortSignal.timeout(30_000));
    await control.stop(AbortSignal.timeout(1_000));
    await store.stop();
    life.abort();
  },
});
