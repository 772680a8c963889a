/**
 * Lanes of one priority share the drain: while one has something to send, the others get no more than
 * what their shares are worth before it is its turn.
 */
import { assert } from "../../agent/core/assert.ts";
import type { LaneName, Lanes } from "./plan.ts";

/** What the lane with the smallest share may send in a turn. */
const TURN_BYTES = 4_096;
/** Of a packet of an ordinary schedule. */
const MOST_PACKET = 1_300;
const NAMES: readonly LaneName[] = ["alarm", "event", "telemetry", "state"];
/** A lane that the configuration no longer names still sends what it has, as one of these. */
const ORPHAN = { priority: 5, share: 1 };

export class ShareWatch {
  readonly #lanes: Lanes;
  /** Bytes that others of its priority sent while it waited. */
  readonly #waited = new Map<LaneName, number>();

  constructor(lanes: Lanes) {
    this.#lanes = lanes;
  }

  /** A first sending; `ready`: whether a lane has something that is not on its way. */
  sent(lane: LaneName, bytes: number, ready: (lane: LaneName) => boolean): void {
    this.#waited.delete(lane);
    for (const other of Object.keys(this.#lanes) as LaneName[]) {
      if (other === lane || this.#lanes[other]?.priority !== this.#lanes[lane]?.priority) continue;
      // What its key keeps back is not to be seen from here.
      const waits = this.#lanes[other]?.keep === undefined && ready(other);
      const waited = waits ? (this.#waited.get(other) ?? 0) + bytes : 0;
      this.#waited.set(other, waited);
      const most = this.#turnOfOthers(other);
      assert(waited <= most, `${other} waits for its turn while others send ${waited} of ${most}`);
    }
  }

  #turnOfOthers(lane: LaneName): number {
    const equals = NAMES.map((name) => this.#lanes[name] ?? ORPHAN).filter(
      ({ priority }) => priority === this.#lanes[lane]?.priority,
    );
    const shares = equals.map(({ share = 1 }) => share);
    const others = shares.reduce((sum, share) => sum + share, 0) - (this.#lanes[lane]?.share ?? 1);
    // A turn of each, and what did not fit in the one before.
    return TURN_BYTES * (others / Math.min(...shares)) + equals.length * MOST_PACKET;
  }
}
