import { jsonCodec, type Store, type Table } from "../store/store.ts";

/** What the store remembers of the runs of the agent, for the health report. */
export interface RunRecord {
  /** Starts of the agent on this state folder. */
  readonly starts: number;
  readonly bootId: string;
  /** False from the start on, true after a clean stop. */
  readonly clean: boolean;
}

export interface PastRuns {
  /** Starts before this one. */
  readonly restarts: number;
  /** How the last run ended; null for the first. */
  readonly lastExit: "clean" | "killed" | "power" | null;
}

const KEY = "run";

export class RunLog {
  readonly #store: Store;
  readonly #table: Table<RunRecord>;
  readonly #bootId: string;
  #starts = 0;

  constructor(store: Store, bootId: string) {
    this.#store = store;
    this.#bootId = bootId;
    this.#table = store.table(
      "runs",
      jsonCodec((value) => value as RunRecord),
    );
  }

  /** Notes that a run begins. An unclean end in another boot than this one was the power's. */
  async begin(): Promise<PastRuns> {
    const last = await this.#table.get(KEY).catch(() => undefined);
    this.#starts = (last?.starts ?? 0) + 1;
    await this.#write(false);
    if (!last) return { restarts: 0, lastExit: null };
    const unclean = last.bootId === this.#bootId ? "killed" : "power";
    return { restarts: last.starts, lastExit: last.clean ? "clean" : unclean };
  }

  end(): Promise<void> {
    return this.#write(true);
  }

  #write(clean: boolean): Promise<void> {
    const record = { starts: this.#starts, bootId: this.#bootId, clean };
    return this.#store.commit([this.#table.put(KEY, record)], { sync: true });
  }
}
