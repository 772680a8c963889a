import { isJsonObject } from "../core/json.ts";
import type { MessageId } from "../core/message.ts";
import { jsonCodec, type Store, type Table, type Write } from "../store/store.ts";

/**
 * What was let go and not reported yet: one counter for each lane and reason, kept in table `gaps`.
 * A counter is written in the same commit as the deletions it counts, and deleted in the same
 * commit that queues its report; so that neither a crash nor a failing disk loses a count or
 * reports one twice.
 *
 * A counter that is being reported takes no more losses: those open a new one under a new key.
 */
export type LossReason = "full" | "ttl" | "quota" | "damage" | "quarantine";

/** A message at one end of a gap. */
export interface GapEnd {
  readonly id: MessageId;
  /** Wall time of its acceptance, Unix milliseconds; as right as the clock was. */
  readonly at: number;
}

export interface Loss {
  /** Null: it was in a record of which not even the lane can be read. */
  readonly lane: string | null;
  readonly reason: LossReason;
  readonly messages: number;
  /** Of their packets, as far as known. */
  readonly bytes: number;
  readonly from: GapEnd | null;
  readonly to: GapEnd | null;
  /** False: there may have been more. */
  readonly exact: boolean;
}

export interface Counter {
  readonly key: string;
  loss: Loss;
  /** Monotonic times of the first loss in it (or of the start of the process) and of the last. */
  firstMs: number;
  lastMs: number;
  /** Its last change is on disk. */
  committed: boolean;
}

/** When an end of losses is assumed, and how long the connection must have been up. */
const QUIET_MS = 5_000;
/** Losses that do not end are reported this often. */
const LONGEST_MS = 60_000;

/** Whether a counter is to be reported now. Offline it waits: the gap is not over. */
export function isGapDue(
  now: number,
  onlineSinceMs: number | undefined,
  { firstMs, lastMs }: Pick<Counter, "firstMs" | "lastMs">,
): boolean {
  if (onlineSinceMs === undefined || now - onlineSinceMs < QUIET_MS) return false;
  return now - lastMs >= QUIET_MS || now - Math.max(firstMs, onlineSinceMs) >= LONGEST_MS;
}

export class Losses {
  readonly #table: Table<Loss>;
  readonly #counters = new Set<Counter>();
  /** Those that take more losses, by lane and reason. */
  readonly #open = new Map<string, Counter>();
  readonly #dirty = new Set<Counter>();
  /** In a commit under way, or in one that failed and is tried again. */
  readonly #writing = new Set<Counter>();
  #merged: Write[] = [];
  #lastSerial = 0;

  constructor(store: Store) {
    this.#table = store.table("gaps", jsonCodec(toLoss));
  }

  /** What earlier processes counted; counters of one lane and reason become one. */
  async load(now: number): Promise<void> {
    for await (const [key, loss] of this.#table.range({ limit: Number.POSITIVE_INFINITY })) {
      this.#lastSerial = Math.max(this.#lastSerial, Number.parseInt(key, 16) || 0);
      const same = this.#open.get(nameOf(loss));
      if (same) {
        same.loss = merge(same.loss, loss);
        this.#touch(same);
        this.#merged.push(this.#table.del(key));
        continue;
      }
      this.#add({ key, loss, firstMs: now, lastMs: now, committed: true });
    }
  }

  /** Is on disk with the next commit that takes the writes. */
  count(loss: Loss, now: number): void {
    const open = this.#open.get(nameOf(loss));
    if (open) {
      open.loss = merge(open.loss, loss);
      open.lastMs = now;
      this.#touch(open);
      return;
    }
    const key = (++this.#lastSerial).toString(16).padStart(12, "0");
    this.#touch(this.#add({ key, loss, firstMs: now, lastMs: now, committed: false }));
  }

  /** The changes since the last call; the caller keeps them until a commit took them. */
  takeWrites(): Write[] {
    const writes = this.#merged;
    this.#merged = [];
    for (const counter of this.#dirty) {
      writes.push(this.#table.put(counter.key, counter.loss));
      this.#writing.add(counter);
    }
    this.#dirty.clear();
    return writes;
  }

  /** Everything that `takeWrites` gave is on disk. */
  committed(): void {
    for (const counter of this.#writing) counter.committed = !this.#dirty.has(counter);
    this.#writing.clear();
  }

  /** Those of which the report would say what the disk says. */
  get reportable(): Counter[] {
    return [...this.#counters].filter(({ committed }) => committed);
  }

  /** It takes no more losses. Its deletion, to be part of the commit that queues the report. */
  close(counter: Counter): Write {
    const name = nameOf(counter.loss);
    if (this.#open.get(name) === counter) this.#open.delete(name);
    return this.#table.del(counter.key);
  }

  /** The report is queued. */
  reported(counter: Counter): void {
    this.#counters.delete(counter);
  }

  #add(counter: Counter): Counter {
    this.#counters.add(counter);
    this.#open.set(nameOf(counter.loss), counter);
    return counter;
  }

  #touch(counter: Counter): void {
    counter.committed = false;
    this.#dirty.add(counter);
  }
}

function nameOf({ lane, reason }: Loss): string {
  return `${lane ?? ""}/${reason}`;
}

function merge(a: Loss, b: Loss): Loss {
  return {
    ...a,
    messages: a.messages + b.messages,
    bytes: a.bytes + b.bytes,
    from: a.from ?? b.from,
    to: b.to ?? a.to,
    exact: a.exact && b.exact,
  };
}

/** The store's seal says that these bytes are ours; this, that they are of this release. */
function toLoss(value: unknown): Loss {
  if (!isJsonObject(value) || typeof value["messages"] !== "number") {
    throw new TypeError("not a counter of losses");
  }
  return value as unknown as Loss;
}
