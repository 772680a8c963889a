import type { Clock } from "../core/clock.ts";
import { describeError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { Lane } from "./lane.ts";
import type { Dropped, Records } from "./records.ts";

/** Between two attempts to read a backlog that the disk does not give. */
const READ_RETRY_MS = 1_000;

export interface BacklogDeps {
  readonly records: Pick<Records, "read">;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onDamaged: (dropped: Dropped) => void;
}

/** Reads what waits on disk into its lanes, one reader for each lane at a time. */
export class Backlog {
  readonly #deps: BacklogDeps;

  constructor(deps: BacklogDeps) {
    this.#deps = deps;
  }

  /** The next records of the lane; whoever comes meanwhile waits for the same ones. */
  load(lane: Lane): Promise<void> {
    lane.loading ??= this.#read(lane).finally(() => {
      lane.loading = undefined;
    });
    return lane.loading;
  }

  async #read(lane: Lane): Promise<void> {
    const { records, clock, log, onDamaged } = this.#deps;
    try {
      const { entries, runs, damaged } = await records.read(lane);
      for (const run of runs) lane.runs.push(run);
      for (const entry of entries) {
        lane.loaded.push(entry);
        lane.latest?.loaded(entry);
      }
      for (const dropped of damaged) onDamaged(dropped);
      lane.unreadableUntilMs = 0;
    } catch (error) {
      if (lane.unreadableUntilMs === 0) {
        log.warn("backlog not readable", { lane: lane.name, error: describeError(error) });
      }
      lane.unreadableUntilMs = clock.monotonicMs() + READ_RETRY_MS;
    }
  }
}
