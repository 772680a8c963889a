/**
 * A scripted run of store and outbox: `child.ts run DIR` puts, settles some, puts more and stops;
 * whatever is refused is tried again until it is accepted. `child.ts check DIR` says what is there.
 * Lines go to `<DIR>.said`: `accepted TEXT`, `settled TEXT`, `there TEXT`, `done`.
 */
import { openSync, writeSync } from "node:fs";
import { assert } from "../../../agent/core/assert.ts";
import { isHoldfastError } from "../../../agent/core/errors.ts";
import { silentLog } from "../../../agent/core/log.ts";
import { decodePublish } from "../../../agent/core/publish-packet.ts";
import { SystemClock } from "../../../agent/core/system-clock.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { countMissing, DurableOutbox } from "../../../agent/outbox/outbox.ts";
import { DatabaseStore, FileVolatileLog, openLevel } from "../../../agent/store/store.ts";

const [mode = "", dir = ""] = process.argv.slice(2);
const said = openSync(`${dir}.said`, "a");
const say = (line: string): void => {
  writeSync(said, `${line}\n`);
};
const never = new AbortController().signal;
const clock = new SystemClock();
const random = new SystemRandom();
const MB = 1_048_576;

async function openStore(): Promise<DatabaseStore> {
  const store = new DatabaseStore(
    {
      dir,
      ballastBytes: mode === "run" ? 2 * MB : 0,
      space: { quotaBytes: 200 * MB, keepFreeBytes: 0, keepFreeInodes: 0 },
    },
    { openDatabase: openLevel, random, log: silentLog, countMissing },
  );
  await store.start();
  assert(store.salvage === undefined, `a fault is no damage: ${store.salvage?.cause}`);
  return store;
}

async function openOutbox(store: DatabaseStore): Promise<DurableOutbox> {
  const lane = { maxMessages: 1e9, maxBytes: 1e12, ttlMs: 0, priority: 5 } as const;
  const volatileLog = new FileVolatileLog(
    { dir: `${dir}.run`, identity: () => store.id },
    () => undefined,
  );
  const outbox = new DurableOutbox(
    {
      lanes: { telemetry: { ...lane, whenFull: "refuse" } },
      ...{ persistDelayMs: 0, settleEvery: 64, bootId: "boot", checkTopic: () => undefined },
    },
    { store, volatileLog, clock, random, log: silentLog },
  );
  await outbox.start();
  return outbox;
}

/** Refused is not lost: it is tried again, as producers do, but not for ever. */
async function put(outbox: DurableOutbox, text: string): Promise<void> {
  const payload = Buffer.from(`${text} ${"x".repeat(300)}`);
  for (let attempt = 1; ; attempt++) {
    try {
      await outbox.put({ topic: "up/t", payload, lane: "telemetry" });
      say(`accepted ${text}`);
      return;
    } catch (error) {
      assert(isHoldfastError(error, "store_not_writable"), String(error));
      assert(attempt < 20, "the store recovers by itself");
      await clock.sleep(100, never);
    }
  }
}

async function settle(outbox: DurableOutbox, count: number): Promise<void> {
  for (let left = count; left > 0; ) {
    const batch = await outbox.take({ messages: left, bytes: 1e9 }, never);
    outbox.settle(batch.ids);
    for (const text of textsOf(batch)) say(`settled ${text}`);
    left -= batch.count;
  }
}

function textsOf(batch: Awaited<ReturnType<DurableOutbox["take"]>>): string[] {
  return Array.from({ length: batch.count }, (_, i) => {
    const packet = batch.bytes.subarray(batch.offsets[i], batch.offsets[i + 1]);
    return Buffer.from(decodePublish(packet).payload).toString().split(" ")[0] ?? "";
  });
}

const store = await openStore();
const outbox = await openOutbox(store);
if (mode === "run") {
  let text = 0;
  for (let i = 0; i < 8; i++) {
    await Promise.all(Array.from({ length: 8 }, () => put(outbox, String(++text))));
  }
  await settle(outbox, 40);
  for (let i = 0; i < 4; i++) await put(outbox, String(++text));
  await store.look();
  await store.secure();
  await store.compact("outbox").catch(() => undefined);
  for (let i = 0; i < 4; i++) await put(outbox, String(++text));
} else {
  while ((outbox.stats().lanes["telemetry"]?.messages ?? 0) > 0) {
    const batch = await outbox.take({ messages: 1_000, bytes: 1e9 }, never);
    for (const text of textsOf(batch)) say(`there ${text}`);
    outbox.settle(batch.ids);
  }
}
await outbox.stop(never);
await store.stop();
say("done");
