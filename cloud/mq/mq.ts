/**
 * The MQ side of the service (lmq-protocol 8): what is published or produced under a parent topic
 * is kept until every consumer group has confirmed it.
 *
 *     Router (MQTT) --published--.                            .-- consume, confirm -- HTTP
 *     HTTP, notices --produce----+--> Topic: pack being filled --commit--> packs, groups
 *
 * Invariants
 * - What is told a sender (PUBACK, the id of a produce, the number of an acknowledgement) is on disk
 *   and synced. The records of a commit go with those of the mailboxes: a publish that is kept in
 *   both places pays one sync, and all that came meanwhile shares it and one record (pack.ts).
 * - A group gets what it has not confirmed, the oldest first, each message to one consumer at a
 *   time: for `leaseMs`, then it comes again. A restart ends all leases. At least once, never lost
 *   but for the bounds below.
 * - A new group starts at the first message still kept. Tags choose among the messages of one
 *   request; what does not match stays unconfirmed for other requests of the group.
 * - On an ordered topic, of a sender that asked for order at most one message is leased at a time,
 *   the oldest.
 * - A pack that every group has confirmed is gone, from the disk too; so is what is over its age,
 *   and over the bounds of the topic, the oldest first and counted. Of topics that no
 *   group reads less is kept, and publishes to them only as far as the allowance goes: a burst, then
 *   so many a second, the rest is counted. For a tenth of it the sender waits for the sync; the
 *   others are answered at once and written with the next commit, so a crash may take them.
 *   Whoever only uses MQTT does not pay for a side that nobody reads (measured: without the
 *   allowance a flood of publishes falls to a fifth, and one publish at a time to the disk's pace).
 * - A group that nobody used for the retention time is forgotten.
 *
 * Full or failing disk: the commit fails, the sender is told, the message was never there. QoS 0 is
 * written with the next commit and without a sync; when more waits for the disk than may, it is
 * dropped here and counted. A damaged record is logged and skipped.
 */
import type { Clock } from "../../agent/core/clock.ts";
import { describeError, HoldfastError } from "../../agent/core/errors.ts";
import type { Logger } from "../../agent/core/log.ts";
import { parentOf } from "../../agent/protocol/topics.ts";
import type { Store, Write } from "../../agent/store/store.ts";
import type { Directory } from "../access/access.ts";
import type { Age, Done, GroupCommit, TakenWrites } from "../storage/storage.ts";
import { Allowance } from "./allowance.ts";
import type { Group } from "./group.ts";
import type { Message, Origin } from "./pack.ts";
import { endOf, type PackEntry } from "./pack-index.ts";
import { MqTables } from "./tables.ts";
import type { TagFilter } from "./tags.ts";
import { type Filled, type Found, type Kept, Topic } from "./topic.ts";

export { Notices } from "./notices.ts";
export { mqRoutes } from "./routes.ts";

export interface MqOptions {
  readonly leaseMs: number;
  /** Messages and bytes of one topic. */
  readonly messages: number;
  readonly bytes: number;
  /** The same of a topic that no group reads. */
  readonly unreadMessages: number;
  readonly unreadBytes: number;
  /** Publishes to such topics that are kept: a burst, then so many a second. */
  readonly unreadBurst: number;
  readonly unreadPerSecond: number;
}

export interface MqDeps {
  readonly store: Store;
  /** Writes with it, and grows old with it. */
  readonly storage: {
    readonly commits: GroupCommit;
    readonly age: Age;
    saveAge(): void;
  };
  readonly clock: Clock;
  readonly log: Logger;
  readonly directory: () => Directory;
}

export interface MqStats {
  /** Messages kept now. */
  readonly kept: number;
  readonly groups: number;
  readonly leased: number;
  /** Consumers that wait for a first message. */
  readonly waiting: number;
  readonly confirmed: number;
  /** Messages that went before somebody who might have wanted them confirmed them. */
  readonly expired: number;
  readonly removedForLimit: number;
  /** Publishes over the allowance of topics that no group reads. */
  readonly unread: number;
  /** QoS 0 that came while the disk was too slow. */
  readonly dropped: number;
}

/** What a client published; the payload may be a view, it is copied. */
interface Published {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: number;
}

interface Sender {
  readonly clientId: string;
  readonly clean: boolean;
  readonly ordered: boolean;
}

export interface Delivered extends Message {
  readonly id: string;
}

interface ConsumeRequest {
  readonly topic: string;
  readonly group: string;
  readonly filter: TagFilter;
  readonly max: number;
  /** How long to wait for a first message. */
  readonly waitMs: number;
}

/** How often ages and bounds are looked at, in milliseconds. */
const PRUNE_INTERVAL_MS = 60_000;
/** A group's last use is written down when the note on disk is older than this. */
const SEEN_NOTE_MS = 3_600_000;
/** Bytes on their way to the disk above which QoS 0 is not kept here. */
const PENDING_HIGH_BYTES = 33_554_432;
const PACK_MESSAGES = 512;
/** One in so many of the publishes that are kept although nobody reads them is worth a sync. */
const SAFE_PART = 10;
const GROUPS_PER_TOPIC = 100;

export class Mq {
  readonly #options: MqOptions;
  readonly #deps: MqDeps;
  readonly #log: Logger;
  readonly #tables: MqTables;
  readonly #topics = new Map<string, Topic>();
  /** Those that have a group. */
  readonly #readTopics = new Set<string>();
  readonly #filling = new Set<Topic>();
  /** Searches of a group, one after the other. */
  readonly #searches = new Map<Group, Promise<unknown>>();
  readonly #allowance: Allowance;
  /** The part of it for which senders wait. */
  readonly #safeAllowance: Allowance;
  readonly #stats = { confirmed: 0, expired: 0, removedForLimit: 0, unread: 0, dropped: 0 };
  #extraWrites: Write[] = [];
  #pendingBytes = 0;
  #lastSeq = 0;
  #life = AbortSignal.abort();

  constructor(options: MqOptions, deps: MqDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#log = deps.log.child("mq");
    this.#tables = new MqTables(deps.store);
    const { unreadBurst: burst, unreadPerSecond: perSecond } = options;
    this.#allowance = new Allowance({ burst, perSecond }, deps);
    const safe = { burst: burst / SAFE_PART, perSecond: perSecond / SAFE_PART };
    this.#safeAllowance = new Allowance(safe, deps);
    const mq = this;
    deps.storage.commits.join({
      take: () => this.#take(),
      get pendingBytes() {
        return mq.#pendingBytes;
      },
    });
  }

  /** Reads what is there; consumers wait and ages are looked at until `signal` aborts. */
  async start(signal: AbortSignal): Promise<void> {
    this.#life = signal;
    for await (const { topic, first, pack } of this.#tables.packs()) {
      const known = this.#topic(topic);
      const entry = known.entryOf(first, pack);
      known.index.add(entry);
      this.#lastSeq = Math.max(this.#lastSeq, endOf(entry) - 1);
    }
    for await (const { topic, group, next, seenAt } of this.#tables.groups()) {
      this.#topic(topic).group(group, next, seenAt);
      this.#readTopics.add(topic);
      this.#lastSeq = Math.max(this.#lastSeq, next - 1);
    }
    for await (const { topic, group, first, bits } of this.#tables.confirmed()) {
      const known = this.#topics.get(topic);
      const owner = known?.groups.get(group);
      if (owner && known?.index.find(first)) owner.confirmed.load(first, bits);
      else this.#write(this.#tables.delConfirmed(topic, group, first));
    }
    for (const topic of this.#topics.values()) this.#tidy(topic);
    signal.addEventListener("abort", () => this.#wakeAll(), { once: true });
    this.#log.info("mq read", { messages: this.stats.kept, groups: this.stats.groups });
    void this.#pruneForever(signal);
  }

  get stats(): MqStats {
    const sum = { kept: 0, groups: 0, leased: 0, waiting: 0 };
    for (const { index, groups, waiting } of this.#topics.values()) {
      sum.waiting += waiting;
      sum.kept += index.messages;
      sum.groups += groups.size;
      for (const group of groups.values()) sum.leased += group.leased;
    }
    return { ...sum, ...this.#stats };
  }

  /** Whether a client's publish is kept here, and before it is answered; asked once for each. */
  wants(topic: string, qos: number): "no" | "kept" | "safe" {
    const isRead = this.#readTopics.size > 0 && this.#readTopics.has(parentOf(topic));
    if (isRead) return qos > 0 ? "safe" : "kept";
    if (!this.#allowance.take(this.#life)) {
      this.#stats.unread++;
      return "no";
    }
    return qos > 0 && this.#safeAllowance.take(this.#life) ? "safe" : "kept";
  }

  /**
   * Keeps what a client published. With `done` it is called once the message is on disk; without,
   * as for QoS 0, nobody waits, and it is kept where there is room on the way to the disk.
   */
  published({ topic, payload, qos }: Published, sender: Sender, done: Done | undefined): void {
    if (!done && this.#deps.storage.commits.pendingBytes > PENDING_HIGH_BYTES) {
      this.#stats.dropped++;
      return;
    }
    const parent = parentOf(topic);
    const origin = { ...sender, qos, second: topic.slice(parent.length) };
    this.#add(parent, origin, payload, done && ((error) => done(error)));
  }

  /** A message of the MQ side; `kept` is called once it is on disk. */
  produce(
    topic: string,
    message: {
      readonly tag: string;
      readonly properties: Readonly<Record<string, string>>;
      readonly body: Uint8Array;
    },
    kept: (error: Error | undefined, id: string) => void,
  ): void {
    const { tag, properties, body } = message;
    this.#add(topic, { tag, properties }, body, (error, seq) => kept(error, idOf(seq)));
  }

  /** A message of the service itself, and writes that must not reach the disk without it. */
  note(topic: string, message: { tag: string; body: Uint8Array }, writes: readonly Write[]): void {
    this.#extraWrites.push(...writes);
    const origin = { tag: message.tag, properties: {} };
    this.#add(topic, origin, message.body, undefined);
  }

  /**
   * Leases messages to a consumer; empty when none came within `waitMs`, or `signal` aborted.
   * Throws `too_many` for a group more than the topic may have, `store_not_writable`,
   * `store_unreadable`.
   */
  async consume(request: ConsumeRequest, signal: AbortSignal): Promise<readonly Delivered[]> {
    const { clock } = this.#deps;
    const topic = this.#topic(request.topic);
    const group = await this.#groupOf(topic, request.group);
    const endMs = clock.monotonicMs() + request.waitMs;
    for (;;) {
      const changed = new AbortController();
      const forget = topic.onChange(() => changed.abort());
      try {
        const found = await this.#search(topic, group, request, signal);
        const leftMs = endMs - clock.monotonicMs();
        const isOver = leftMs <= 0 || signal.aborted || this.#life.aborted;
        if (found.length > 0 || isOver) {
          return found.map(({ seq, message }) => ({ id: idOf(seq), ...message }));
        }
        const sleepMs = Math.min(leftMs, group.nextEndMs() ?? leftMs);
        await clock.sleep(sleepMs, AbortSignal.any([changed.signal, signal, this.#life]));
      } finally {
        forget();
      }
    }
  }

  /**
   * Confirms messages for a group, whoever has them in hand; resolves with how many were not
   * confirmed before, once that is on disk. Throws `not_found` for a group that never asked,
   * `request_invalid` for what is no id, `store_not_writable`.
   */
  async confirm(request: {
    readonly topic: string;
    readonly group: string;
    readonly ids: readonly string[];
  }): Promise<number> {
    const topic = this.#topic(request.topic);
    const group = topic.groups.get(request.group);
    if (!group) throw new HoldfastError("not_found", "No consumer of this group ever asked.");
    const seqs = request.ids.map(seqOf);
    const fresh = new Map<number, PackEntry>();
    for (const seq of seqs) {
      const entry = topic.index.find(seq);
      if (!entry || group.confirmed.has(seq, entry)) continue;
      group.confirmed.set(seq, entry);
      fresh.set(seq, entry);
    }
    if (fresh.size === 0) return 0;
    try {
      const writes = [...new Set(fresh.values())].map((entry) => {
        const bits = group.confirmed.bitsOf(entry) ?? new Uint8Array(0);
        return this.#tables.putConfirmed(topic.name, group.name, entry.first, bits.slice());
      });
      await this.#commit(writes);
    } catch (error) {
      for (const [seq, entry] of fresh) {
        group.confirmed.unset(seq, entry);
        group.free(seq);
      }
      throw error;
    }
    for (const seq of fresh.keys()) group.release(seq);
    this.#stats.confirmed += fresh.size;
    for (const entry of new Set(fresh.values())) this.#drop(topic, entry);
    this.#advance(topic, group);
    if (this.#isOrdered(topic)) topic.wake();
    return fresh.size;
  }

  #topic(name: string): Topic {
    let topic = this.#topics.get(name);
    if (!topic) {
      const { messages, leaseMs } = this.#options;
      const packMessages = Math.max(1, Math.min(PACK_MESSAGES, Math.floor(messages / 100)));
      topic = new Topic(
        { name, leaseMs, packMessages },
        { tables: this.#tables, clock: this.#deps.clock, log: this.#log },
      );
      this.#topics.set(name, topic);
    }
    return topic;
  }

  #isOrdered(topic: Topic): boolean {
    return this.#deps.directory().topics.get(topic.name)?.ordered ?? false;
  }

  /** A group is on disk before its first message: what others confirmed must not pass it by. */
  async #groupOf(topic: Topic, name: string): Promise<Group> {
    const nowMs = this.#deps.storage.age.ms;
    let group = topic.groups.get(name);
    if (!group) {
      if (topic.groups.size >= GROUPS_PER_TOPIC) {
        throw new HoldfastError("too_many", "The topic has as many consumer groups as it may.");
      }
      group = topic.group(name, 0, nowMs);
      try {
        this.#readTopics.add(topic.name);
        await this.#commit([this.#putGroup(topic, group)]);
      } catch (error) {
        topic.groups.delete(name);
        if (!topic.isRead) this.#readTopics.delete(topic.name);
        throw error;
      }
    } else if (nowMs - group.seenAt > SEEN_NOTE_MS) {
      group.seenAt = nowMs;
      this.#write(this.#putGroup(topic, group));
    }
    return group;
  }

  #putGroup(topic: Topic, { name, confirmed, seenAt }: Group): Write {
    return this.#tables.putGroup(topic.name, name, { next: confirmed.next, seenAt });
  }

  async #search(
    topic: Topic,
    group: Group,
    { filter, max }: ConsumeRequest,
    signal: AbortSignal,
  ): Promise<readonly Found[]> {
    const before = this.#searches.get(group);
    const search = (async () => {
      await before?.catch(() => undefined);
      // Who is gone meanwhile must not take messages with it.
      if (signal.aborted) return [];
      return topic.search(group, filter, { max, ordered: this.#isOrdered(topic) });
    })();
    this.#searches.set(group, search);
    try {
      return await search;
    } finally {
      if (this.#searches.get(group) === search) this.#searches.delete(group);
    }
  }

  #add(name: string, origin: Origin, body: Uint8Array, kept: Kept | undefined): void {
    const topic = this.#topic(name);
    this.#pendingBytes += topic.add(origin, body, kept);
    this.#filling.add(topic);
    this.#deps.storage.commits.wake();
  }

  /** All packs that were filled since the last commit, as one part of the next. */
  #take(): TakenWrites | undefined {
    if (this.#filling.size === 0) return undefined;
    const writes = this.#extraWrites;
    const packs: { topic: Topic; first: number; filled: Filled }[] = [];
    let sync = false;
    for (const topic of this.#filling) {
      for (const filled of topic.takeFilled(this.#deps.storage.age.ms)) {
        const first = this.#lastSeq + 1;
        this.#lastSeq += filled.pack.entries.length;
        packs.push({ topic, first, filled });
        writes.push(this.#tables.putPack(topic.name, first, filled.pack));
        sync ||= filled.kept.some((kept) => kept !== undefined);
      }
    }
    const bytes = this.#pendingBytes;
    this.#filling.clear();
    this.#extraWrites = [];
    const done: Done = (error) => {
      this.#pendingBytes -= bytes;
      for (const { topic, first, filled } of packs) {
        if (!error) topic.committed(first, filled.pack);
        for (const [i, kept] of filled.kept.entries()) kept?.(error, first + i);
        if (!error) this.#bound(topic);
      }
    };
    return { writes, sync, done };
  }

  /** Resolves when it is on disk and synced. */
  #commit(writes: readonly Write[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#deps.storage.commits.add(writes, 256 * writes.length, (error) =>
        error ? reject(error) : resolve(),
      );
    });
  }

  /** With the next commit: what a restart would find out by itself. */
  #write(write: Write): void {
    this.#deps.storage.commits.add([write], 64);
  }

  #advance(topic: Topic, group: Group): void {
    const passed = group.confirmed.advance();
    if (group.confirmed.takeMoved()) this.#write(this.#putGroup(topic, group));
    for (const { first } of passed) {
      this.#write(this.#tables.delConfirmed(topic.name, group.name, first));
    }
  }

  /** Takes the pack off the disk when every group has confirmed all of it. */
  #drop(topic: Topic, entry: PackEntry): void {
    if (topic.isDone(entry)) this.#remove(topic, entry);
  }

  #remove(topic: Topic, entry: PackEntry): void {
    const isOldest = topic.index.first === entry;
    topic.remove(entry);
    this.#write(this.#tables.delPack(topic.name, entry.first));
    for (const group of topic.groups.values()) {
      if (isOldest) group.confirmed.pass(entry);
      if (group.confirmed.forget(entry)) {
        this.#write(this.#tables.delConfirmed(topic.name, group.name, entry.first));
      }
    }
  }

  /** After a start: what a crash left between a confirmation and its consequences. */
  #tidy(topic: Topic): void {
    let entry = topic.index.first;
    while (entry) {
      const next = topic.index.from(endOf(entry));
      this.#drop(topic, entry);
      entry = next;
    }
    for (const group of topic.groups.values()) this.#advance(topic, group);
  }

  /** The oldest go until the topic is within its bounds. */
  #bound(topic: Topic): void {
    const { messages, bytes, unreadMessages, unreadBytes } = this.#options;
    const [most, mostBytes] =
      topic.groups.size > 0 ? [messages, bytes] : [unreadMessages, unreadBytes];
    for (let entry = topic.index.first; entry; entry = topic.index.first) {
      if (topic.index.messages <= most && topic.index.bytes <= mostBytes) return;
      this.#stats.removedForLimit += topic.missing(entry);
      this.#remove(topic, entry);
    }
  }

  async #pruneForever(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        for (const topic of this.#topics.values()) this.#prune(topic);
        if (this.stats.kept > 0) this.#deps.storage.saveAge();
      } catch (error) {
        this.#log.error("pruning failed", { error: describeError(error) });
      }
      await this.#deps.clock.sleep(PRUNE_INTERVAL_MS, signal);
    }
  }

  #prune(topic: Topic): void {
    const { age } = this.#deps.storage;
    for (const group of topic.groups.values()) {
      if (!age.isOver(group.seenAt)) continue;
      topic.groups.delete(group.name);
      if (!topic.isRead) this.#readTopics.delete(topic.name);
      this.#write(this.#tables.delGroup(topic.name, group.name));
      // Their bitmaps go with their packs, or at the next start.
    }
    for (let entry = topic.index.first; entry; entry = topic.index.first) {
      if (!age.isOver(entry.keptAt)) break;
      this.#stats.expired += topic.missing(entry);
      this.#remove(topic, entry);
    }
    this.#bound(topic);
    for (const group of topic.groups.values()) this.#advance(topic, group);
  }

  #wakeAll(): void {
    for (const topic of this.#topics.values()) topic.wake();
  }
}

/** Sixteen hexadecimal digits of the message's number. */
function idOf(seq: number): string {
  return seq.toString(16).padStart(16, "0");
}

function seqOf(id: string): number {
  const seq = /^[0-9a-f]{16}$/.test(id) ? Number.parseInt(id, 16) : Number.NaN;
  if (Number.isSafeInteger(seq)) return seq;
  throw new HoldfastError("request_invalid", `${JSON.stringify(id)} is not the id of a message.`);
}
