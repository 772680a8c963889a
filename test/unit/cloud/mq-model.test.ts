/**
 * The MQ side beside a model of it that keeps everything in plain lists: random publishes, requests,
 * confirmations, passing time, kills and power cuts. Every answer must be the model's.
 */
import { expect, it } from "vitest";
import { silentLog } from "../../../agent/core/log.ts";
import type { Directory } from "../../../cloud/cloud.ts";
import { Mq } from "../../../cloud/mq/mq.ts";
import { parseTags } from "../../../cloud/mq/tags.ts";
import { CloudStorage } from "../../../cloud/storage/storage.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { MemoryStore } from "../../support/memory-store.ts";
import { SeededRandom } from "../../support/seeded-random.ts";

const LEASE_MS = 1_000;
const never = new AbortController().signal;
const TOPICS = ["PLAIN", "ORDERED"] as const;
const GROUPS = ["g1", "g2"] as const;
const TAGS = ["", "a", "b"] as const;
const FILTERS = ["*", "a", "a||b"] as const;
const SENDERS = ["GID_demo@@@1", "GID_demo@@@2"] as const;

const directory: Directory = {
  accounts: new Map(),
  instanceId: "mqtt-local",
  groups: new Set(),
  topics: new Map([
    ["PLAIN", { ordered: false }],
    ["ORDERED", { ordered: true }],
  ]),
};

interface ModelMessage {
  readonly text: string;
  readonly tag: string;
  readonly orderKey: string | undefined;
  readonly leasedUntil: Map<string, number>;
  readonly confirmedBy: Set<string>;
  id: string | undefined;
}

interface Rig {
  readonly store: MemoryStore;
  readonly mq: Mq;
  readonly storage: CloudStorage;
  readonly life: AbortController;
}

async function open(store: MemoryStore, clock: FakeClock): Promise<Rig> {
  const deps = { store, clock, log: silentLog };
  const storage = new CloudStorage(
    { offlinePerInstance: 1_000, retentionMs: 1e9, unknownTargets: 1_000 },
    deps,
  );
  const mq = new Mq(
    {
      leaseMs: LEASE_MS,
      messages: 1_000,
      bytes: 1e9,
      unreadMessages: 1_000,
      unreadBytes: 1e9,
      unreadBurst: 1_000,
      unreadPerSecond: 0,
    },
    { ...deps, storage, directory: () => directory },
  );
  const life = new AbortController();
  await storage.start(life.signal);
  await mq.start(life.signal);
  return { store, mq, storage, life };
}

/** One run; throws with what happened when an answer is not the model's. */
async function run(seed: number): Promise<{ delivered: number; confirmed: number }> {
  const random = new SeededRandom(seed);
  const clock = new FakeClock();
  const model = new Map<string, ModelMessage[]>(TOPICS.map((topic) => [topic, []]));
  const story: string[] = [];
  const sums = { delivered: 0, confirmed: 0 };
  let rig = await open(new MemoryStore(), clock);
  // Both groups are there from the start: what a late one finds depends on what shares a record.
  for (const topic of TOPICS) {
    for (const group of GROUPS)
      await rig.mq.consume({ ...everything(topic, group), max: 1 }, never);
  }
  let count = 0;
  const pick = <T>(all: readonly T[]): T => all[random.int(all.length)] as T;

  const publish = async (): Promise<void> => {
    const topic = pick(TOPICS);
    const many = 1 + random.int(6);
    story.push(`publish ${many} ${topic}`);
    await Promise.all(
      Array.from({ length: many }, () => {
        const text = `m${++count}`;
        const body = Buffer.from(text);
        const tag = pick(TAGS);
        const isMqtt = tag === "" && random.chance(0.8);
        const clientId = pick(SENDERS);
        const ordered = random.chance(0.7);
        const orderKey = isMqtt && ordered && topic === "ORDERED" ? clientId : undefined;
        const message = { text, tag, orderKey, leasedUntil: new Map(), confirmedBy: new Set() };
        model.get(topic)?.push({ ...message, id: undefined } as ModelMessage);
        return new Promise<void>((resolve, reject) => {
          const done = (error?: Error): void => (error ? reject(error) : resolve());
          if (isMqtt) {
            const sender = { clientId, clean: true, ordered };
            rig.mq.published({ topic: `${topic}/x`, payload: body, qos: 1 }, sender, done);
          } else rig.mq.produce(topic, { tag, properties: {}, body }, done);
        });
      }),
    );
  };

  const expected = (
    topic: string,
    group: string,
    tags: ReadonlySet<string> | undefined,
    max: number,
  ) => {
    const nowMs = clock.monotonicMs();
    const isLeased = (m: ModelMessage): boolean => (m.leasedUntil.get(group) ?? 0) > nowMs;
    const open = (model.get(topic) ?? []).filter((m) => !m.confirmedBy.has(group));
    const held = new Set(open.filter(isLeased).map(({ orderKey }) => orderKey));
    held.delete(undefined);
    const found: ModelMessage[] = [];
    for (const message of open) {
      if (found.length === max) break;
      if (isLeased(message) || (tags && !tags.has(message.tag))) continue;
      if (held.has(message.orderKey)) continue;
      found.push(message);
      if (message.orderKey) held.add(message.orderKey);
    }
    return found;
  };

  const consume = async (): Promise<void> => {
    const topic = pick(TOPICS);
    const group = pick(GROUPS);
    const filter = parseTags(pick(FILTERS));
    if (!filter) throw new Error("a filter");
    const max = 1 + random.int(8);
    const wanted = expected(topic, group, filter.tags, max);
    const request = { topic, group, filter, max, waitMs: 0 };
    const found = await rig.mq.consume(request, never);
    const texts = found.map(({ body }) => Buffer.from(body).toString());
    story.push(`consume ${topic} ${group} ${filter.text || "*"} ${max}: ${texts.join(" ")}`);
    if (texts.join() !== wanted.map(({ text }) => text).join()) {
      const should = wanted.map(({ text }) => text).join(" ");
      throw new Error(`seed ${seed}: expected ${should}\n${story.join("\n")}`);
    }
    for (const [i, message] of wanted.entries()) {
      message.id = found[i]?.id;
      message.leasedUntil.set(group, clock.monotonicMs() + LEASE_MS);
    }
    sums.delivered += found.length;
  };

  const confirm = async (): Promise<void> => {
    const topic = pick(TOPICS);
    const group = pick(GROUPS);
    const chosen = (model.get(topic) ?? []).filter((m) => m.id !== undefined && random.chance(0.4));
    const ids = chosen.map(({ id }) => id as string);
    if (ids.length === 0) return;
    const fresh = chosen.filter((m) => !m.confirmedBy.has(group)).length;
    const acked = await rig.mq.confirm({ topic, group, ids });
    story.push(`confirm ${topic} ${group} ${chosen.map(({ text }) => text).join(" ")}: ${acked}`);
    if (acked !== fresh) throw new Error(`seed ${seed}: not ${fresh}\n${story.join("\n")}`);
    for (const message of chosen) message.confirmedBy.add(group);
    sums.confirmed += acked;
  };

  const restart = async (): Promise<void> => {
    const how = pick(["stop", "kill", "power cut"] as const);
    story.push(how);
    let { store } = rig;
    if (how === "kill") store = store.afterKill();
    if (how === "power cut") store = store.afterPowerCut();
    rig.life.abort();
    await rig.storage.stop();
    rig = await open(store, clock);
    for (const message of [...model.values()].flat()) message.leasedUntil.clear();
  };

  for (let step = 0; step < 80; step++) {
    const dice = random.float();
    if (dice < 0.3) await publish();
    else if (dice < 0.65) await consume();
    else if (dice < 0.85) await confirm();
    else if (dice < 0.95) await clock.advance(random.int(LEASE_MS * 1.5));
    else await restart();
  }
  await finish(rig, model, clock);
  return sums;
}

/** In the end every group confirms everything, and nothing is left on the disk. */
async function finish(
  rig: Rig,
  model: ReadonlyMap<string, readonly ModelMessage[]>,
  clock: FakeClock,
): Promise<void> {
  for (const topic of TOPICS) {
    for (const group of GROUPS) {
      for (let empty = 0; empty < 2; ) {
        await clock.advance(LEASE_MS);
        const found = await rig.mq.consume(everything(topic, group), never);
        if (found.length === 0) empty++;
        await rig.mq.confirm({ topic, group, ids: found.map(({ id }) => id) });
        for (const { body } of found) {
          const message = model
            .get(topic)
            ?.find(({ text }) => text === Buffer.from(body).toString());
          expect(message?.confirmedBy.has(group)).toBe(false);
          message?.confirmedBy.add(group);
        }
      }
      for (const message of model.get(topic) ?? []) expect(message.confirmedBy).toContain(group);
    }
  }
  await rig.storage.stop();
  expect(rig.mq.stats.kept).toBe(0);
  expect(rig.store.countOf("cloud_mq_packs")).toBe(0);
  expect(rig.store.countOf("cloud_mq_confirmed")).toBe(0);
}

function everything(topic: string, group: string) {
  return { topic, group, filter: { text: "", tags: undefined }, max: 32, waitMs: 0 };
}

it("150 random runs are answered as the model answers", async () => {
  const sums = { delivered: 0, confirmed: 0 };
  for (let seed = 1; seed <= 150; seed++) {
    const { delivered, confirmed } = await run(seed);
    sums.delivered += delivered;
    sums.confirmed += confirmed;
  }
  expect(sums.delivered).toBeGreaterThan(5_000);
  expect(sums.confirmed).toBeGreaterThan(2_000);
});
