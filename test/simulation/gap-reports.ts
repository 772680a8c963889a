/**
 * I13 as bookkeeping: what the outbox counted as let go, and what its reports told the service. A
 * report that comes again has the same id and bytes and counts once.
 */
import { assert } from "../../agent/core/assert.ts";
import type { Received } from "../support/sim-link.ts";

export const GAP_TOPIC = "up/gap/device";
/** Reasons for which a policy lets messages go; nothing is damaged here. */
const REASONS = new Set(["full", "ttl", "quota", "quarantine"]);

interface Report {
  readonly lane: string | null;
  readonly reason: string;
  readonly from: { readonly id: string } | null;
  readonly to: { readonly id: string } | null;
  readonly count: number;
  readonly exact: boolean;
}

export class GapReports {
  readonly #byId = new Map<string, string>();
  readonly #told = new Map<string, number>();
  readonly #counted = new Map<string, number>();
  /** Every loss that is counted is told: false once a count may have been lost with its losses. */
  isExact = true;
  /** An old copy of the state came back: what it reports is its own affair. */
  isForgiven = false;

  /** So many more were counted by a process. */
  counted(lane: string, reason: string, messages: number): void {
    add(this.#counted, `${lane} ${reason}`, messages);
  }

  received({ id, text }: Received): void {
    const before = this.#byId.get(id);
    assert(before === undefined || before === text, `the report ${id} came with other bytes`);
    if (before !== undefined) return;
    this.#byId.set(id, text);
    if (this.isForgiven) return;
    const { lane, reason, count, exact, from, to } = JSON.parse(text) as Report;
    assert(REASONS.has(reason), `a gap of ${lane} for ${reason}`);
    assert(exact && count > 0 && from !== null && to !== null, `a vague report: ${text}`);
    add(this.#told, `${lane} ${reason}`, count);
  }

  /** At the end: `lost` gives for each lane what was accepted and never came. */
  check(lost: ReadonlyMap<string, number>): void {
    if (this.isForgiven) return;
    for (const [name, told] of this.#told) {
      const counted = this.#counted.get(name) ?? 0;
      assert(told <= counted, `${name}: ${told} reported, ${counted} counted`);
    }
    for (const [name, counted] of this.#counted) {
      const told = this.#told.get(name) ?? 0;
      assert(!this.isExact || told === counted, `${name}: ${counted} counted, ${told} reported`);
    }
    for (const [lane, messages] of lost) {
      const ofLane = [...this.#told].filter(([name]) => name.startsWith(`${lane} `));
      const told = ofLane.reduce((sum, [, count]) => sum + count, 0);
      assert(told >= messages, `${lane}: ${messages} never came, ${told} reported`);
    }
  }

  get told(): number {
    return [...this.#told.values()].reduce((sum, count) => sum + count, 0);
  }
}

function add(counts: Map<string, number>, name: string, more: number): void {
  counts.set(name, (counts.get(name) ?? 0) + more);
}
