import { HoldfastError } from "../core/errors.ts";
import type { OutgoingMessage } from "../core/message.ts";
import { provenAgeMs } from "./entry.ts";
import { Lane, type LaneOptions } from "./lane.ts";
import type { LaneStats } from "./port.ts";
import type { RecordTime } from "./record.ts";
import { FairShare } from "./share.ts";

/**
 * For records of a lane that the configuration no longer names: they are still ours to deliver, but
 * it takes no new ones.
 */
const ORPHAN_LANE: LaneOptions = {
  priority: 5,
  maxMessages: Number.MAX_SAFE_INTEGER,
  maxBytes: Number.MAX_SAFE_INTEGER,
  ttlMs: 0,
  whenFull: "drop-oldest",
};

/** The lanes of the configuration, and those of which there are still records. */
export class Lanes {
  readonly #configured: Readonly<Record<string, LaneOptions>>;
  readonly #lanes = new Map<string, Lane>();
  #byPriority: readonly Lane[] = [];
  #shares: readonly FairShare<Lane>[] = [];

  constructor(configured: Readonly<Record<string, LaneOptions>>) {
    this.#configured = configured;
    for (const [name, options] of Object.entries(configured)) this.#add(name, options);
  }

  /** The most important first. */
  get byPriority(): readonly Lane[] {
    return this.#byPriority;
  }

  /** One for each priority, the most important first. */
  get shares(): readonly FairShare<Lane>[] {
    return this.#shares;
  }

  get names(): readonly string[] {
    return [...this.#lanes.keys()];
  }

  get(name: string): Lane | undefined {
    return this.#lanes.get(name);
  }

  /** The lane of a record, made where nobody names it any more. */
  ofRecord(name: string): Lane {
    return this.#lanes.get(name) ?? this.#add(name, ORPHAN_LANE);
  }

  /** A lane that takes messages. */
  open(name: string): Lane | undefined {
    return Object.hasOwn(this.#configured, name) ? this.#lanes.get(name) : undefined;
  }

  /** Throws `lane_unknown`. */
  of(message: OutgoingMessage): Lane {
    const lane = this.open(message.lane);
    if (lane) return lane;
    const known = Object.keys(this.#configured).join(", ");
    throw new HoldfastError(
      "lane_unknown",
      `There is no lane "${message.lane}"; there are ${known}.`,
    );
  }

  stats(now: RecordTime): Record<string, LaneStats> {
    const lanes: Record<string, LaneStats> = {};
    for (const lane of this.#byPriority) {
      const { messages, bytes, oldest } = lane;
      const oldestAgeMs = oldest && messages > 0 ? provenAgeMs(oldest, now) : 0;
      lanes[lane.name] = {
        ...{ messages, bytes, oldestAgeMs, dropped: { ...lane.dropped } },
        ...(lane.latest && { replaced: lane.replaced }),
      };
    }
    return lanes;
  }

  #add(name: string, options: LaneOptions): Lane {
    const lane = new Lane(name, options);
    this.#lanes.set(name, lane);
    this.#byPriority = [...this.#lanes.values()].sort(
      (a, b) => a.options.priority - b.options.priority,
    );
    const groups = Map.groupBy(this.#byPriority, ({ options: { priority } }) => priority);
    this.#shares = [...groups.values()].map(
      (lanes) => new FairShare(lanes.map((item) => ({ item, weight: item.options.share ?? 1 }))),
    );
    return lane;
  }
}
