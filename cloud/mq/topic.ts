/**
 * One topic of the MQ side: its packs, the pack being filled, its consumer groups.
 *
 * A message gets its number when its pack is formed for a commit, and is seen by consumers when
 * that commit is on disk: nobody is given what a power cut could take back.
 */
import type { Clock } from "../../agent/core/clock.ts";
import { describeError, isHoldfastError } from "../../agent/core/errors.ts";
import type { Logger } from "../../agent/core/log.ts";
import { Group } from "./group.ts";
import { type Message, messageAt, type Origin, type Pack, PackWriter } from "./pack.ts";
import { endOf, type PackEntry, PackIndex } from "./pack-index.ts";
import type { MqTables } from "./tables.ts";
import type { TagFilter } from "./tags.ts";

/** Told the number of the message once it is on disk, or why it is not. */
export type Kept = (error: Error | undefined, seq: number) => void;

export interface TopicOptions {
  readonly name: string;
  readonly leaseMs: number;
  /** Messages in one pack at most. */
  readonly packMessages: number;
}

export interface TopicDeps {
  readonly tables: MqTables;
  readonly clock: Clock;
  readonly log: Logger;
}

/** A pack on its way to the disk. */
export interface Filled {
  readonly pack: Pack;
  readonly kept: readonly (Kept | undefined)[];
}

export interface Found {
  readonly seq: number;
  readonly message: Message;
}

/** Bodies of one pack, in bytes; one message more may be in it. */
const PACK_BYTES = 262_144;
/** What a message costs on disk and in memory beside its body, about, in bytes. */
const OVERHEAD_BYTES = 128;
/** Messages looked through behind one that is held back, so that a search ends. */
const LOOK_BEHIND = 10_000;
/** Most packs have this and share it. */
const UNTAGGED: readonly string[] = [""];

export class Topic {
  readonly name: string;
  readonly index = new PackIndex();
  readonly groups = new Map<string, Group>();
  readonly #options: TopicOptions;
  readonly #deps: TopicDeps;
  readonly #waiting = new Set<() => void>();
  #filling: { readonly writer: PackWriter; readonly kept: (Kept | undefined)[] }[] = [];
  /** Packs of the last commits, as long as there is a group that may want them. */
  readonly #recent = new Map<number, Pack>();
  #recentBytes = 0;

  constructor(options: TopicOptions, deps: TopicDeps) {
    this.name = options.name;
    this.#options = options;
    this.#deps = deps;
  }

  /** Whether there is a group that wants everything. */
  get isRead(): boolean {
    return this.groups.size > 0;
  }

  /** Into the pack being filled; returns what it costs until that is on disk, in bytes. */
  add(origin: Origin, body: Uint8Array, kept: Kept | undefined): number {
    let last = this.#filling.at(-1);
    if (
      !last ||
      last.writer.count >= this.#options.packMessages ||
      last.writer.bodyBytes >= PACK_BYTES
    ) {
      last = { writer: new PackWriter(), kept: [] };
      this.#filling.push(last);
    }
    last.writer.add(origin, body, this.#deps.clock.wallMs());
    last.kept.push(kept);
    return body.length + OVERHEAD_BYTES;
  }

  /** All that was added since the last time, for a commit. */
  takeFilled(ageMs: number): readonly Filled[] {
    const filled = this.#filling.map(({ writer, kept }) => ({ pack: writer.finish(ageMs), kept }));
    this.#filling = [];
    return filled;
  }

  /** The pack is on disk under its first number. */
  committed(first: number, pack: Pack): void {
    this.index.add(this.entryOf(first, pack));
    if (this.groups.size > 0) this.#remember(first, pack);
    this.wake();
  }

  entryOf(first: number, pack: Pack): PackEntry {
    const { entries, bodies } = pack;
    const isUntagged = pack.tags.length === 1 && pack.tags[0] === "";
    return {
      first,
      count: entries.length,
      bytes: bodies.length + entries.length * OVERHEAD_BYTES,
      keptAt: pack.keptAt,
      tags: isUntagged ? UNTAGGED : pack.tags,
    };
  }

  group(name: string, next: number, seenAt: number): Group {
    const { leaseMs } = this.#options;
    const options = { name, next, seenAt, leaseMs };
    const group = new Group(options, { index: this.index, clock: this.#deps.clock });
    this.groups.set(name, group);
    return group;
  }

  /** Leases what is free and matches, the oldest first. Searches of one group must not overlap. */
  async search(
    group: Group,
    filter: TagFilter,
    options: { readonly max: number; readonly ordered: boolean },
  ): Promise<readonly Found[]> {
    const search = group.begin(filter, options);
    const found: Found[] = [];
    let place = search.place;
    let left: number | undefined;
    let behind = 0;
    try {
      for (let entry = this.index.from(place); entry; entry = this.index.from(place)) {
        place = endOf(entry);
        if (!group.mayHave(entry, filter)) continue;
        const pack = await this.#load(entry);
        if (!pack || this.index.find(entry.first) !== entry) continue;
        const leased = group.lease(entry, pack, search, options.max - found.length);
        left ??= leased.left;
        for (const seq of leased.taken) {
          found.push({ seq, message: messageAt(pack, seq - entry.first) });
        }
        if (left !== undefined) behind += entry.count;
        if (found.length === options.max || behind > LOOK_BEHIND) break;
      }
    } catch (error) {
      for (const { seq } of found) group.free(seq);
      throw error;
    }
    group.end(search, left ?? place);
    return found;
  }

  /** Whether no group will ask for it again; a topic without groups waits for its first one. */
  isDone(entry: PackEntry): boolean {
    if (this.groups.size === 0) return false;
    for (const { confirmed } of this.groups.values()) if (!confirmed.hasAll(entry)) return false;
    return true;
  }

  /** Messages of the pack that somebody may still want. */
  missing(entry: PackEntry): number {
    if (this.groups.size === 0) return entry.count;
    let most = 0;
    for (const { confirmed } of this.groups.values()) {
      most = Math.max(most, confirmed.missing(entry));
    }
    return most;
  }

  /** Forgets a pack that goes from the disk too. */
  remove(entry: PackEntry): void {
    this.index.remove(entry);
    this.#forget(entry.first);
  }

  /** Those who are called back at the next change. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Calls back once at the next change: a new pack, a confirmation, the end. */
  onChange(listener: () => void): () => void {
    this.#waiting.add(listener);
    return () => this.#waiting.delete(listener);
  }

  wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const listener of waiting) listener();
  }

  /** Undefined when its record is damaged: nobody can have it, and it goes. */
  async #load(entry: PackEntry): Promise<Pack | undefined> {
    const recent = this.#recent.get(entry.first);
    if (recent) return recent;
    const { tables, log } = this.#deps;
    try {
      const pack = await tables.readPack(this.name, entry.first);
      if (pack) this.#remember(entry.first, pack);
      return pack;
    } catch (error) {
      if (!isHoldfastError(error, "store_damaged") && !(error instanceof SyntaxError)) throw error;
      const fields = { topic: this.name, messages: entry.count, error: describeError(error) };
      log.error("messages unreadable", fields);
      this.remove(entry);
      return undefined;
    }
  }

  #remember(first: number, pack: Pack): void {
    this.#forget(first);
    this.#recent.set(first, pack);
    this.#recentBytes += sizeOf(pack);
    for (const [oldest] of this.#recent) {
      if (this.#recentBytes <= RECENT_BYTES) break;
      this.#forget(oldest);
    }
  }

  #forget(first: number): void {
    const pack = this.#recent.get(first);
    if (!pack || !this.#recent.delete(first)) return;
    this.#recentBytes -= sizeOf(pack);
  }
}

/** Of packs in memory, for each topic that has a group. */
const RECENT_BYTES = 1_048_576;

function sizeOf({ entries, bodies }: Pack): number {
  return bodies.length + entries.length * OVERHEAD_BYTES;
}
