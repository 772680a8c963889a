/**
 * What waits in the mailbox of a connected client (lmq-protocol 6), pushed in batches: one each
 * interval, whether or not the last one was acknowledged, the oldest first.
 *
 * The old manual pull, a publish to `$SYS/getOfflineMsg`, brings a batch of its own at once and
 * stops nothing: the automatic batches go on, so a client that pulls once and never again loses
 * nothing. The first pull counts only within the first keep-alive period, pulls are at most five a
 * second, and one that cannot be read, comes too late or too soon is acknowledged and no more. What
 * is with the client and unacknowledged is not pulled again before its ack timeout.
 *
 * The end of the connection: what was being read from the disk may be taken by the next one.
 */
import type { Clock } from "../../agent/core/clock.ts";
import type { CloudStorage, Taken } from "../storage/storage.ts";
import type { Deadline, Deadlines } from "./deadlines.ts";
import type { BrokerTimings } from "./options.ts";

export interface OfflineDeps {
  readonly storage: CloudStorage;
  readonly deadlines: Deadlines;
  readonly clock: Clock;
  /** How many messages the client may be pushed now. */
  readonly room: () => number;
  readonly push: (message: {
    readonly topic: string;
    readonly payload: Uint8Array;
    readonly qos: 1;
    readonly seq: number;
    pushes: number;
  }) => void;
}

export interface OfflineOptions {
  readonly clientId: string;
  readonly timings: BrokerTimings;
  /** The first keep-alive period, in milliseconds; Infinity where there is none. */
  readonly keepAliveMs: number;
}

interface Pull {
  readonly max: number;
  readonly order: "oldest" | "newest";
}

const PULLS_PER_SECOND = 5;
const NONE: readonly never[] = [];

export class Offline {
  readonly #options: OfflineOptions;
  readonly #deps: OfflineDeps;
  /** What was taken and is being read from the disk; most connections never have any. */
  #reading: Set<Taken> | undefined;
  #batch: Deadline | undefined;
  #isBatchReading = false;
  #nextBatchMs = 0;
  /** When the first pull has to be there; Infinity once it was. */
  #pullByMs = 0;
  #pulledAtMs: readonly number[] = NONE;
  #ended = false;

  constructor(options: OfflineOptions, deps: OfflineDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  start(): void {
    this.#pullByMs = this.#deps.clock.monotonicMs() + this.#options.keepAliveMs;
    this.schedule();
  }

  /** Makes sure that a batch comes when the mailbox has one and the interval allows it. */
  schedule(): void {
    if (this.#ended || this.#isBatchReading) return;
    const { storage, clock, deadlines } = this.#deps;
    const nowMs = clock.monotonicMs();
    const visibleMs = storage.mailbox(this.#options.clientId)?.nextVisibleMs(nowMs);
    if (visibleMs === undefined) return;
    const dueMs = Math.max(visibleMs, this.#nextBatchMs, nowMs);
    if (this.#batch?.action && this.#batch.dueMs <= dueMs) return;
    deadlines.cancel(this.#batch);
    if (dueMs <= nowMs) void this.#pushBatch();
    else this.#batch = deadlines.after(dueMs - nowMs, () => void this.#pushBatch());
  }

  /** The payload of a publish to `$SYS/getOfflineMsg`. */
  pull(payload: Uint8Array): void {
    const pull = readPull(payload);
    const nowMs = this.#deps.clock.monotonicMs();
    if (!pull || this.#ended || nowMs > this.#pullByMs) return;
    this.#pullByMs = Number.POSITIVE_INFINITY;
    const [first = Number.NEGATIVE_INFINITY] = this.#pulledAtMs;
    if (this.#pulledAtMs.length === PULLS_PER_SECOND && nowMs - first < 1_000) return;
    this.#pulledAtMs = [...this.#pulledAtMs, nowMs].slice(-PULLS_PER_SECOND);
    void this.#push(pull);
  }

  end(): void {
    this.#ended = true;
    const { storage, clock, deadlines } = this.#deps;
    deadlines.cancel(this.#batch);
    // Now and not when it was read: the next connection looks once, at its start.
    const nowMs = clock.monotonicMs();
    const mailbox = storage.mailbox(this.#options.clientId);
    for (const { seq, pushes } of this.#reading ?? NONE) mailbox?.release(seq, pushes, nowMs);
  }

  async #pushBatch(): Promise<void> {
    const { offlineBatch, offlineIntervalMs } = this.#options.timings;
    this.#nextBatchMs = this.#deps.clock.monotonicMs() + offlineIntervalMs;
    this.#isBatchReading = true;
    await this.#push({ max: offlineBatch, order: "oldest" });
    this.#isBatchReading = false;
    this.schedule();
  }

  async #push({ max, order }: Pull): Promise<void> {
    let left = Math.min(max, this.#options.timings.offlineBatch);
    // What turns out to be gone or unreadable makes place for the next.
    for (;;) {
      const taken = this.#take(left, order);
      if (taken.length === 0) return;
      const pushed = await this.#pushTaken(taken);
      if (pushed === taken.length || this.#ended) return;
      left -= pushed;
    }
  }

  #take(max: number, order: Pull["order"]): readonly Taken[] {
    const { storage, clock, room } = this.#deps;
    const count = Math.min(max, room() - (this.#reading?.size ?? 0));
    const mailbox = storage.mailbox(this.#options.clientId);
    return mailbox?.take(count, clock.monotonicMs(), order) ?? [];
  }

  /** How many of them could be read. */
  async #pushTaken(taken: readonly Taken[]): Promise<number> {
    const { storage, push } = this.#deps;
    const { clientId } = this.#options;
    this.#reading ??= new Set();
    for (const one of taken) this.#reading.add(one);
    const messages = await Promise.all(taken.map(({ seq }) => storage.read(clientId, seq)));
    if (this.#ended) return 0;
    let pushed = 0;
    for (const [i, one] of taken.entries()) {
      this.#reading.delete(one);
      const message = messages[i];
      if (!message) continue;
      pushed++;
      const { topic, payload } = message;
      push({ topic, payload, qos: 1, seq: one.seq, pushes: one.pushes });
    }
    return pushed;
  }
}

/** Undefined for what is no such request. */
function readPull(payload: Uint8Array): Pull | undefined {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(payload).toString("utf8"));
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { maxPushNum, pushOrder } = value as { maxPushNum?: unknown; pushOrder?: unknown };
  if (!Number.isSafeInteger(maxPushNum) || (maxPushNum as number) < 1) return undefined;
  if (pushOrder !== "ASC" && pushOrder !== "DESC") return undefined;
  return { max: maxPushNum as number, order: pushOrder === "ASC" ? "oldest" : "newest" };
}
