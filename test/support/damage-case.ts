/**
 * One damaged store: a folder as a clean stop or a kill left it, one file of it flipped, cut, emptied
 * or deleted, by a seed. `runDamageCase` starts on it, drains it, and compares with what was there.
 */
import { cp, mkdir, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { assert } from "../../agent/core/assert.ts";
import { silentLog } from "../../agent/core/log.ts";
import { decodePublish } from "../../agent/core/publish-packet.ts";
import { SystemRandom } from "../../agent/core/system-random.ts";
import { countMissing, DurableOutbox } from "../../agent/outbox/outbox.ts";
import { decodeRecord } from "../../agent/outbox/record.ts";
import { Formats } from "../../agent/store/formats.ts";
import { repairLevel } from "../../agent/store/level.ts";
import { DatabaseStore, jsonCodec, openLevel } from "../../agent/store/store.ts";
import { copyLiving } from "./copy-living.ts";
import { FakeClock } from "./fake-clock.ts";
import { MemoryVolatileLog } from "./memory-volatile-log.ts";
import { SeededRandom } from "./seeded-random.ts";

const LANES = ["alarm", "telemetry"];
const never = new AbortController().signal;
const formats = new Formats();

/** What was in the store before the damage. */
export interface Template {
  readonly dir: string;
  /** Each text that was not settled, to the number of its record. */
  readonly waiting: ReadonlyMap<string, number>;
  readonly settled: ReadonlySet<string>;
  /** Records up to this number are known outside of the database, in the folder of a kill. */
  readonly anchored: number;
  readonly last: number;
}

export interface DamageVerdict {
  readonly what: string;
  readonly outcome: "sound" | "kept" | "repaired" | "replaced";
  readonly waiting: number;
  readonly delivered: number;
  /** Settled before, and sent once more. */
  readonly repeated: number;
  /** Records in front of the anchor that are gone. */
  readonly lostRecords: number;
  /** Messages that are reported as lost, at least. */
  readonly reported: number;
}

async function openStore(dir: string): Promise<DatabaseStore> {
  const random = new SystemRandom();
  const deps = { openDatabase: openLevel, random, log: silentLog, countMissing };
  const store = new DatabaseStore({ dir }, deps);
  await store.start();
  return store;
}

async function openOutbox(store: DatabaseStore, clock: FakeClock): Promise<DurableOutbox> {
  const lane = { maxMessages: 1e9, maxBytes: 1e12, ttlMs: 0, whenFull: "refuse" } as const;
  const outbox = new DurableOutbox(
    {
      lanes: Object.fromEntries(LANES.map((name, i) => [name, { ...lane, priority: i + 1 }])),
      persistDelayMs: 0,
      settleEvery: 4_096,
      checkTopic: () => undefined,
      bootId: "boot",
    },
    {
      ...{ store, clock, random: new SystemRandom(), log: silentLog },
      volatileLog: new MemoryVolatileLog().open(),
    },
  );
  await outbox.start();
  return outbox;
}

/** Makes `killed` and `stopped` in `dir`: the same store, copied in use and after a clean stop. */
export async function makeTemplate(dir: string): Promise<Template> {
  const living = join(dir, "stopped");
  await mkdir(dir, { recursive: true });
  const store = await openStore(living);
  const clock = new FakeClock();
  const outbox = await openOutbox(store, clock);
  const random = new SeededRandom(1);
  let text = 0;
  const put = async (count: number): Promise<void> => {
    const puts = Array.from({ length: count }, () => {
      const payload = Buffer.concat([Buffer.from(`${++text}\n`), random.bytes(400)]);
      const lane = LANES[text % 5 === 0 ? 0 : 1] as string;
      return outbox.put({ topic: "up/t", payload, lane });
    });
    await Promise.all(puts);
  };
  for (let i = 0; i < 60; i++) await put(200);
  const batch = await outbox.take({ messages: 3_000, bytes: 1e9 }, never);
  outbox.settle(batch.ids);
  const settled = new Set(textsOf(batch));
  for (let i = 0; i < 20; i++) await put(100);
  await clock.advance(5_000);
  await put(1); // Behind it the settlements are committed.
  await store.secure();
  const anchored = store.lastNumber;
  for (let i = 0; i < 5; i++) await put(100);
  await copyLiving(living, join(dir, "killed"));
  await outbox.stop(never);
  await store.stop();
  const all = await recordsOf(join(dir, "killed"), dir);
  const waiting = new Map([...all].filter(([one]) => !settled.has(one)));
  return { dir, waiting, settled, anchored, last: Math.max(...all.values()) };
}

/** Starts on a damaged copy in `dir` and drains it. Throws when a promise is broken. */
export async function runDamageCase(
  template: Template,
  seed: number,
  dir: string,
): Promise<DamageVerdict> {
  const random = new SeededRandom(seed);
  const kind = random.chance(0.7) ? "killed" : "stopped";
  await cp(join(template.dir, kind), dir, { recursive: true });
  await rm(join(dir, "holder.pid"), { force: true });
  const what = `seed ${seed}: ${kind}, ${await damage(dir, random)}`;
  const savable = await savableRecords(dir, `${dir}.savable`);

  const store = await openStore(dir);
  const outbox = await openOutbox(store, new FakeClock());
  const delivered = await drain(outbox);
  await outbox.stop(never);
  const losses = store.table(
    "gaps",
    jsonCodec((value) => value as { messages: number }),
  );
  const gaps = await Array.fromAsync(losses.range({ limit: 1e6 }));
  const reported = gaps.reduce((sum, [, { messages }]) => sum + messages, 0);
  const outcome = store.salvage?.outcome ?? "sound";
  await store.stop();
  await checkSecondStart(dir, what);

  const unique = new Set(delivered);
  assert(unique.size === delivered.length, `${what}: a message came twice from one store`);
  const strange = delivered.filter((text) => !template.waiting.has(text));
  assert(
    strange.every((text) => template.settled.has(text)),
    `${what}: a message of nobody`,
  );
  checkOrder(delivered, what);
  const anchored = kind === "killed" ? template.anchored : template.last;
  const gone = [...template.waiting].filter(([text]) => !unique.has(text));
  const goneRecords = new Set(gone.map(([, number]) => number));
  const lostRecords = [...goneRecords].filter((number) => number <= anchored).length;
  const told = outcome === "replaced" || reported >= lostRecords;
  assert(told, `${what} (${outcome}): ${lostRecords} records lost, ${reported} messages reported`);
  if (goneRecords.size > 0 && lostRecords > 0) {
    assert(reported > 0 || outcome !== "sound", `${what}: lost in silence`);
  }
  // A last entry of the log that is broken looks like one that a power cut tore. A repair would take
  // what is left of it, half a commit; so behind the anchor that does not count.
  const counts = ([, number]: [string, number]) => outcome !== "sound" || number <= anchored;
  const before = [...template.waiting].filter(counts);
  const saved = before.filter(([text]) => unique.has(text)).length;
  const could = before.filter(([text]) => savable.has(text)).length;
  assert(saved >= could, `${what} (${outcome}): ${saved} saved, a repair has ${could}`);
  return {
    ...{ what, outcome, waiting: template.waiting.size, delivered: unique.size - strange.length },
    ...{ repeated: strange.length, lostRecords, reported },
  };
}

async function damage(dir: string, random: SeededRandom): Promise<string> {
  const inside = await readdir(join(dir, "db"));
  const pick = (pattern: RegExp): string | undefined => {
    const all = inside.filter((name) => pattern.test(name)).sort();
    return all[random.int(all.length)];
  };
  const kinds = [
    () => "db/CURRENT",
    () => `db/${pick(/^MANIFEST/)}`,
    () => `db/${pick(/\.log$/)}`,
    () => `db/${pick(/\.ldb$/)}`,
    () => `db/${pick(/\.ldb$/)}`,
    () => "store.json",
    () => "anchor",
  ];
  const name = (kinds[random.int(kinds.length)] as () => string)();
  const path = join(dir, name);
  const bytes = await readFile(path);
  const how = random.int(4);
  if (how === 0 && bytes.length > 0) {
    const bit = random.int(bytes.length * 8);
    bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
    await writeFile(path, bytes);
    return `bit ${bit} of ${name} flipped`;
  }
  if (how === 1) {
    const length = random.int(Math.max(1, bytes.length));
    await truncate(path, length);
    return `${name} cut to ${length} of ${bytes.length} bytes`;
  }
  if (how === 2) {
    await truncate(path, 0);
    return `${name} emptied`;
  }
  await rm(path);
  return `${name} deleted`;
}

/** The texts that LevelDB's own repair brings back, in a copy that shares no file. */
async function savableRecords(dir: string, copy: string): Promise<ReadonlySet<string>> {
  await cp(join(dir, "db"), join(copy, "db"), { recursive: true });
  try {
    await repairLevel(join(copy, "db"));
    return new Set((await recordsOf(copy, undefined)).keys());
  } catch {
    return new Set();
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

/** Every text in the sound records of a database, to the number of its record. */
async function recordsOf(from: string, scratch: string | undefined): Promise<Map<string, number>> {
  const at = scratch === undefined ? from : join(scratch, "looked-at");
  if (scratch !== undefined) await cp(join(from, "db"), join(at, "db"), { recursive: true });
  const database = await openLevel(join(at, "db"), { createIfMissing: false });
  const all = new Map<string, number>();
  const range = { gt: "outbox/", lte: "outbox/\x7f", limit: 1e9, reverse: false };
  for await (const [key, value] of database.range(range)) {
    let record: ReturnType<typeof decodeRecord>;
    try {
      record = decodeRecord(formats.unseal(key, value));
    } catch {
      continue;
    }
    for (const { packet } of record.messages) all.set(textOf(packet), record.number);
  }
  await database.close();
  return all;
}

async function drain(outbox: DurableOutbox): Promise<string[]> {
  const all: string[] = [];
  while (Object.values(outbox.stats().lanes).some(({ messages }) => messages > 0)) {
    const patience = new AbortController();
    const waiting = setTimeout(() => patience.abort(), 5_000);
    const batch = await outbox.take({ messages: 4_000, bytes: 1e9 }, patience.signal);
    clearTimeout(waiting);
    if (batch.count === 0 && patience.signal.aborted) {
      throw new Error(`nothing to send, but ${JSON.stringify(outbox.stats().lanes)}`);
    }
    all.push(...textsOf(batch));
    outbox.settle(batch.ids);
  }
  return all;
}

async function checkSecondStart(dir: string, what: string): Promise<void> {
  const store = await openStore(dir);
  const outbox = await openOutbox(store, new FakeClock());
  const left = await drain(outbox);
  assert(store.salvage === undefined, `${what}: damaged again: ${store.salvage?.cause}`);
  assert(left.length === 0, `${what}: ${left.length} messages came back`);
  await outbox.stop(never);
  await store.stop();
}

function checkOrder(delivered: readonly string[], what: string): void {
  const last = [0, 0];
  for (const text of delivered) {
    const lane = Number(text) % 5 === 0 ? 0 : 1;
    assert(Number(text) > (last[lane] as number), `${what}: ${text} came after ${last[lane]}`);
    last[lane] = Number(text);
  }
}

function textsOf(batch: Awaited<ReturnType<DurableOutbox["take"]>>): string[] {
  return Array.from({ length: batch.count }, (_, i) =>
    textOf(batch.bytes.subarray(batch.offsets[i], batch.offsets[i + 1])),
  );
}

function textOf(packet: Uint8Array): string {
  const { payload } = decodePublish(packet);
  const text = Buffer.from(payload);
  return text.subarray(0, text.indexOf("\n")).toString();
}
