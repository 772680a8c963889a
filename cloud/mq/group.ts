/**
 * One consumer group of one topic: what it has confirmed, and what its consumers have in hand.
 *
 * A lease is known in memory only: after a restart everything that is not confirmed may be taken
 * again at once, which at-least-once allows.
 */
import type { Clock } from "../../agent/core/clock.ts";
import { Confirmed } from "./confirmed.ts";
import { orderKeyOf, type Pack, tagOf } from "./pack.ts";
import { endOf, type PackEntry, type PackIndex } from "./pack-index.ts";
import { matchesPack, matchesTag, type TagFilter } from "./tags.ts";

interface Lease {
  readonly untilMs: number;
  /** Whose later messages it holds back. */
  readonly orderKey: string | undefined;
}

/** One look through the topic for what may be taken. */
export interface Search {
  readonly filter: TagFilter;
  readonly max: number;
  /** Whether messages of one sender wait for each other. */
  readonly ordered: boolean;
  /** Where it begins. */
  readonly place: number;
  /** Senders of whom it left something behind: their later messages are not for this search. */
  readonly passed: Set<string>;
  /** How often something had become free before it. */
  readonly frees: number;
}

/** Filters whose place in the topic is remembered; the others begin at the first unconfirmed one. */
const REMEMBERED_FILTERS = 16;

export class Group {
  readonly name: string;
  readonly confirmed: Confirmed;
  /** The age of the service when a consumer last asked, about. */
  seenAt: number;
  readonly #leaseMs: number;
  readonly #clock: Clock;
  /** In the order of their ends. */
  readonly #leases = new Map<number, Lease>();
  readonly #heldKeys = new Set<string>();
  /** By filter: nothing before this number is free and matches. */
  readonly #places = new Map<string, number>();
  #frees = 0;

  constructor(
    options: {
      readonly name: string;
      readonly next: number;
      readonly seenAt: number;
      readonly leaseMs: number;
    },
    deps: { readonly index: PackIndex; readonly clock: Clock },
  ) {
    this.name = options.name;
    this.seenAt = options.seenAt;
    this.confirmed = new Confirmed(options.next, deps.index);
    this.#leaseMs = options.leaseMs;
    this.#clock = deps.clock;
  }

  /** Leased and not confirmed. */
  get leased(): number {
    return this.#leases.size;
  }

  /** Milliseconds until the next lease ends; undefined without one. */
  nextEndMs(): number | undefined {
    const first = this.#leases.values().next().value;
    return first && Math.max(0, first.untilMs - this.#clock.monotonicMs());
  }

  /** Searches of one group follow each other; this ends the leases whose time is over. */
  begin(filter: TagFilter, options: { readonly max: number; readonly ordered: boolean }): Search {
    this.#endLeases();
    const place = Math.max(this.confirmed.next, this.#places.get(filter.text) ?? 0);
    return { filter, ...options, place, passed: new Set(), frees: this.#frees };
  }

  /** The search left nothing free that matches before `place`. */
  end(search: Search, place: number): void {
    if (search.frees !== this.#frees) return;
    const { text } = search.filter;
    this.#places.delete(text);
    this.#places.set(text, place);
    const [oldest] = this.#places.keys();
    if (this.#places.size > REMEMBERED_FILTERS && oldest !== undefined) this.#places.delete(oldest);
  }

  /** Whether it is worth reading the pack. */
  mayHave(entry: PackEntry, filter: TagFilter): boolean {
    return matchesPack(filter, entry.tags) && !this.confirmed.hasAll(entry);
  }

  /**
   * Leases of one pack until there are `room` more. `left`: the first that is free and was not
   * taken, for want of room or because an earlier one of its sender is not confirmed.
   */
  lease(
    entry: PackEntry,
    pack: Pack,
    search: Search,
    room: number,
  ): { readonly taken: readonly number[]; readonly left: number | undefined } {
    const taken: number[] = [];
    let left: number | undefined;
    const untilMs = this.#clock.monotonicMs() + this.#leaseMs;
    for (let seq = entry.first; seq < endOf(entry); seq++) {
      const at = seq - entry.first;
      if (this.confirmed.has(seq, entry) || this.#leases.has(seq)) continue;
      if (!matchesTag(search.filter, tagOf(pack, at))) continue;
      if (taken.length === room) return { taken, left: left ?? seq };
      const orderKey = search.ordered ? orderKeyOf(pack, at) : undefined;
      if (orderKey && (this.#heldKeys.has(orderKey) || search.passed.has(orderKey))) {
        search.passed.add(orderKey);
        left ??= seq;
        continue;
      }
      taken.push(seq);
      this.#leases.set(seq, { untilMs, orderKey });
      if (orderKey) this.#heldKeys.add(orderKey);
    }
    return { taken, left };
  }

  /** It is confirmed, or gone from the topic. */
  release(seq: number): void {
    const lease = this.#leases.get(seq);
    if (!lease) return;
    this.#leases.delete(seq);
    if (lease.orderKey) this.#heldKeys.delete(lease.orderKey);
  }

  /** It may be taken again: its lease ended, or its confirmation could not be written. */
  free(seq: number): void {
    this.release(seq);
    this.#frees++;
    for (const [filter, place] of this.#places) {
      if (place > seq) this.#places.set(filter, seq);
    }
  }

  #endLeases(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [seq, { untilMs }] of this.#leases) {
      if (untilMs > nowMs) break;
      this.free(seq);
    }
  }
}
