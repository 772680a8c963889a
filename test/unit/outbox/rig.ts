/** An outbox over a store in memory and a clock that only the test moves. */
import { silentLog } from "../../../agent/core/log.ts";
import type { Batch, OutgoingMessage, Receipt } from "../../../agent/core/message.ts";
import { decodePublish } from "../../../agent/core/publish-packet.ts";
import {
  DurableOutbox,
  type LaneOptions,
  type OutboxOptions,
} from "../../../agent/outbox/outbox.ts";
import type { Store } from "../../../agent/store/store.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { MemoryStore } from "../../support/memory-store.ts";
import { MemoryVolatileLog } from "../../support/memory-volatile-log.ts";
import { SeededRandom } from "../../support/seeded-random.ts";

export const never = new AbortController().signal;

export function lane(options: Partial<LaneOptions> = {}): LaneOptions {
  const roomy = { maxMessages: 1_000_000, maxBytes: 1e9, ttlMs: 0 };
  return { priority: 5, ...roomy, whenFull: "refuse", ...options };
}

export interface RigOptions<S extends Store> {
  readonly lanes?: Readonly<Record<string, LaneOptions>>;
  readonly persistDelayMs?: number;
  readonly settleEvery?: number;
  readonly store?: S;
  readonly volatile?: MemoryVolatileLog;
  readonly clock?: FakeClock;
  readonly bootId?: string;
  readonly checkTopic?: (topic: string) => void;
  readonly seed?: number;
  readonly gaps?: OutboxOptions["gaps"];
  readonly clientId?: string;
  readonly producers?: MemoryVolatileLog;
}

export async function startRig<S extends Store = MemoryStore>(options: RigOptions<S> = {}) {
  const clock = options.clock ?? new FakeClock();
  const store = (options.store ?? new MemoryStore()) as S;
  const outbox = new DurableOutbox(
    {
      lanes: options.lanes ?? { telemetry: lane() },
      persistDelayMs: options.persistDelayMs ?? 50,
      settleEvery: options.settleEvery ?? 4_096,
      checkTopic: options.checkTopic ?? (() => undefined),
      bootId: options.bootId ?? "boot-1",
      ...(options.gaps && { gaps: options.gaps }),
      ...(options.clientId !== undefined && { clientId: options.clientId }),
    },
    {
      store,
      volatileLog: (options.volatile ?? new MemoryVolatileLog()).open(),
      ...(options.producers && { producerLog: options.producers.open() }),
      clock,
      random: new SeededRandom(options.seed ?? 1),
      log: silentLog,
    },
  );
  await outbox.start();

  const put = (text: string, more: Partial<OutgoingMessage> = {}): Promise<Receipt> =>
    outbox.put({ topic: "up/t", payload: Buffer.from(text), lane: "telemetry", ...more });
  /** What can be taken now, at most `messages`; an empty batch rather than a wait. */
  const take = async (messages = 1_000, bytes = 1e9): Promise<Batch> => {
    const patience = new AbortController();
    const batch = outbox.take({ messages, bytes }, patience.signal);
    await clock.advance(0);
    patience.abort();
    return batch;
  };
  /** Takes and settles until nothing is left; the texts in the order of sending. */
  const drain = async (): Promise<string[]> => {
    const all: string[] = [];
    for (;;) {
      const batch = await take();
      if (batch.count === 0) return all;
      all.push(...texts(batch));
      outbox.settle(batch.ids);
    }
  };
  const statsOf = (name = "telemetry") => {
    const stats = outbox.stats().lanes[name];
    if (!stats) throw new Error(`no lane ${name}`);
    return stats;
  };
  return { outbox, store, clock, put, take, drain, statsOf };
}

export function texts(batch: Batch): string[] {
  return Array.from({ length: batch.count }, (_, i) => {
    const packet = batch.bytes.subarray(batch.offsets[i], batch.offsets[i + 1]);
    return Buffer.from(decodePublish(packet).payload).toString();
  });
}

/** The code that it failed with; `accepted` when it did not fail. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "accepted";
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : String(error);
  }
}

/** Follows a put: what became of it so far. */
export function follow(work: Promise<Receipt>): { outcome: string } {
  const seen = { outcome: "waiting" };
  work.then(
    ({ safe }) => {
      seen.outcome = safe;
    },
    (error: { code?: string }) => {
      seen.outcome = error.code ?? String(error);
    },
  );
  return seen;
}

export function numbers(from: number, to: number): string[] {
  return Array.from({ length: to - from + 1 }, (_, i) => String(from + i));
}
