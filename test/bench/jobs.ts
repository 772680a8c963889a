/** The jobs of the benchmark: each takes one contender through one round and says what it cost. */
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import {
  type Contender,
  freePort,
  type Order,
  type Place,
  type Running,
  startOurs,
} from "./contenders.ts";
import { Child } from "./ipc.ts";
import { type Cost, costOf, privateMb, since } from "./measure.ts";
import { PAYLOAD_BYTES } from "./payloads.ts";
import type { SinkReport } from "./sink.ts";

/** Nothing new for this long: what has not come by then is lost. */
const QUIET_MS = 5_000;
/** For what a contender writes behind its acknowledgements; Mosquitto saves once a second. */
const SETTLE_MS = 2_500;
const SAMPLE_MS = 50;
/** How long the steady load goes on before it is measured. */
const WARM_S = 30;
/** The issue asks for the size of the store this long after a full drain. */
const AFTER_DRAIN_MS = 10_000;

/** What all jobs share. */
export interface Bench {
  /** On the file system that is measured. */
  readonly dir: string;
  /** Messages in flight at most. */
  readonly window: number;
}

export interface OfflineLife {
  readonly acceptedPerSecond: number;
  readonly drainedPerSecond: number;
  readonly drainCpuUs: number;
  readonly acceptCpuUs: number;
  /** Bytes written in the whole life, for each byte of payload. */
  readonly writeRatio: number;
  readonly lost: number;
  readonly duplicates: number;
  readonly outOfOrder: number;
}

/** Place and other end of one round; gone afterwards. */
async function withPlace<T>(
  { dir: base, window }: Bench,
  total: number,
  job: (place: Place & { readonly sink: Child }) => Promise<T>,
): Promise<T> {
  const dir = await mkdtemp(join(base, "holdfast-bench-"));
  const sink = await Child.start("./sink.ts", []);
  try {
    await sink.ask({ do: "reset", total });
    return await job({ dir, sinkPort: await freePort(), window, sink });
  } finally {
    await sink.stop();
    await rm(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Jobs A, B and D: accepted offline, then drained, then settled and compacted. */
export function offlineLife(
  bench: Bench,
  contender: Contender,
  order: Order,
): Promise<OfflineLife> {
  return withPlace(bench, order.count, async ({ sink, ...place }) => {
    const running = await contender.start(place);
    const outage = new Outage(running, { sink, port: place.sinkPort });
    try {
      for (let i = 0; i < contender.outagesBefore; i++) {
        await outage.live(order);
        await sink.ask({ do: "close" });
        await sink.ask({ do: "reset", total: order.count });
      }
      return await outage.live(order);
    } finally {
      await running.stop();
    }
  });
}

class Outage {
  readonly #running: Running;
  readonly #sink: Child;
  readonly #port: number;

  constructor(running: Running, { sink, port }: { readonly sink: Child; readonly port: number }) {
    this.#running = running;
    this.#sink = sink;
    this.#port = port;
  }

  /** From the first message accepted to the last one forgotten. */
  async live(order: Order): Promise<OfflineLife> {
    const { pid } = this.#running;
    const born = costOf(pid);
    const acceptMs = await this.#running.accept(order);
    const accepted = since(born, costOf(pid));
    await pause(SETTLE_MS);
    const before = costOf(pid);
    const report = await this.#drain(order.count);
    const drained = since(before, costOf(pid));
    await this.#settle();
    const life = since(born, costOf(pid));
    return {
      acceptedPerSecond: (order.count * 1000) / acceptMs,
      acceptCpuUs: accepted.cpuUs / order.count,
      drainedPerSecond: (report.seen * 1000) / report.ms,
      drainCpuUs: drained.cpuUs / report.seen,
      writeRatio: life.writtenBytes / (order.count * PAYLOAD_BYTES),
      lost: order.count - report.seen,
      duplicates: report.duplicates,
      outOfOrder: report.outOfOrder,
    };
  }

  async #drain(messages: number): Promise<SinkReport> {
    await this.#sink.ask({ do: "listen", port: this.#port });
    await this.#running.connect();
    return this.#sink.ask<SinkReport>({ do: "wait", messages, quietMs: QUIET_MS });
  }

  /** What is delivered is forgotten, also by the disk, as soon as the contender does that. */
  async #settle(): Promise<void> {
    if (this.#running.settle) await this.#running.settle();
    else await pause(SETTLE_MS);
  }
}

/** Job A on a disk whose sync takes longer: how much faster than one synced put a message. */
export function slowSyncRatio(bench: Bench, order: Order, syncDelayMs: number): Promise<number> {
  const single = 200;
  return withPlace(bench, order.count, async (place) => {
    const running = await startOurs(place, { syncDelayMs });
    try {
      const ms = await running.accept(order);
      const singleMs = await running.child.ask<number>({ do: "acceptBare", count: single });
      return singleMs / single / (ms / order.count);
    } finally {
      await running.stop();
    }
  });
}

export interface Steady {
  readonly cpuUs: number;
  readonly writtenBytes: number;
  readonly lost: number;
  readonly duplicates: number;
  readonly outOfOrder: number;
}

/** Job C: so many messages a second while the service answers at once; costs are per message. */
export function steadyOnline(bench: Bench, contender: Contender, seconds: number): Promise<Steady> {
  const perSecond = 1_000;
  const count = seconds * perSecond;
  return withPlace(bench, count, async ({ sink, ...place }) => {
    const running = await contender.start(place);
    const { sinkPort } = place;
    try {
      await sink.ask({ do: "listen", port: sinkPort });
      await running.connect();
      const load = { do: "steadily", payloads: "random", perSecond } as const;
      // Compiled as in a process that has run for a day, at this pace: at another one the compiler
      // sees other batches, and begins anew when the pace changes.
      const warm = WARM_S * perSecond;
      await sink.ask({ do: "reset", total: warm });
      await running.child?.ask({ ...load, count: warm });
      await sink.ask({ do: "wait", messages: warm, quietMs: QUIET_MS });
      await sink.ask({ do: "reset", total: count });
      const before = costOf(running.pid);
      await running.child?.ask({ ...load, count });
      await sink.ask({ do: "wait", messages: count, quietMs: QUIET_MS });
      const cost: Cost = since(before, costOf(running.pid));
      const report = await sink.ask<SinkReport>({ do: "report" });
      return {
        cpuUs: cost.cpuUs / count,
        writtenBytes: cost.writtenBytes / count,
        lost: count - report.seen,
        duplicates: report.duplicates,
        outOfOrder: report.outOfOrder,
      };
    } finally {
      await running.stop();
    }
  });
}

export interface Million {
  readonly idleMb: number;
  readonly queuedMb: number;
  readonly drainPeakMb: number;
  readonly drainedPerSecond: number;
  readonly headMs: number;
  /** Of the store's peak, 10 s after the drain. */
  readonly storePercent: number;
  readonly lost: number;
}

/** Jobs F and G, with the flags that ship: a backlog of `count`, its drain, and what is left. */
export function million(bench: Bench, count: number): Promise<Million> {
  return withPlace(bench, count, async ({ sink, ...place }) => {
    const running = await startOurs(place, { shipped: true });
    const { sinkPort } = place;
    const { child, pid } = running;
    const storeBytes = async (): Promise<number> =>
      (await child.ask<{ storeBytes: number }>({ do: "stats" })).storeBytes;
    try {
      await pause(1_000);
      const idleMb = privateMb(pid);
      await running.accept({ count, callers: 2_048, payloads: "random" });
      await pause(2_000);
      const queuedMb = privateMb(pid);
      const peakBytes = await storeBytes();
      await sink.ask({ do: "listen", port: sinkPort });
      await running.connect();
      let drainPeakMb = 0;
      const sampling = setInterval(() => {
        drainPeakMb = Math.max(drainPeakMb, privateMb(pid));
      }, SAMPLE_MS);
      const report = await sink.ask<SinkReport>({
        do: "wait",
        messages: count,
        quietMs: QUIET_MS,
      });
      clearInterval(sampling);
      const drainedAt = performance.now();
      await child.ask({ do: "settled" });
      // Before anything is compacted: all that was deleted lies in the way.
      const headMs = await child.ask<number>({ do: "findHead" });
      await pause(Math.max(0, drainedAt + AFTER_DRAIN_MS - performance.now()));
      const leftBytes = await storeBytes();
      return {
        idleMb,
        queuedMb: queuedMb - idleMb,
        drainPeakMb: drainPeakMb - idleMb,
        drainedPerSecond: (report.seen * 1000) / report.ms,
        headMs,
        storePercent: (100 * leftBytes) / peakBytes,
        lost: count - report.seen,
      };
    } finally {
      await running.stop();
    }
  });
}
