/**
 * What the machine is and how it does: `ping`, `info`, `metrics`, `processes`, `disks`; and, where
 * it is configured, metrics as telemetry. Every reply fits the 4 KiB that a reply gets by default.
 * A value that nobody knows (no sensor, a tool that is missing) is null, never an error.
 */

import * as v from "valibot";
import { definePlugin, type Plugin, type PluginContext, PluginError } from "#sdk";
import { cached } from "./cache.ts";
import { fitReply, percent, short, tenth } from "./fit.ts";
import { type FileSystem, type Machine, type Process, thisMachine } from "./machine.ts";

const Config = v.strictObject({
  /** Seconds between two telemetry messages; 0: none. */
  publish_every_s: v.optional(
    v.union([v.literal(0), v.pipe(v.number(), v.minValue(0.1), v.maxValue(86_400))]),
    0,
  ),
  /** Below `topics.up`. */
  publish_topic: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(64)), "metrics"),
});

const ProcessesParams = v.strictObject({
  top: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(50)), 10),
  by: v.optional(v.picklist(["cpu", "mem"]), "cpu"),
});

/** How long a reading is good for, in milliseconds. */
const freshMs = 1_000;
const diskFreshMs = 10_000;
const identityFreshMs = 3_600_000;
/** One part that is slow must not hold up the others. */
const partMs = 3_000;
const deadlineMs = 15_000;

export function systemPlugin(machine: Machine = thisMachine): Plugin {
  const identity = cached(identityFreshMs, () => machine.identity());
  const fileSystems = cached(diskFreshMs, () => machine.fileSystems());
  const processes = cached(freshMs, () => machine.processes());
  const cpu = cached(freshMs, () => machine.cpu());
  const memory = cached(freshMs, () => machine.memory());
  const temperature = cached(freshMs, () => machine.temperature());

  async function metrics(context: PluginContext) {
    const [load, mem, disks, tempC] = await inTime(context, (part) =>
      Promise.all([part(cpu), part(memory), part(fileSystems), part(temperature)]),
    );
    const root = disks?.find(({ mount }) => mount === "/");
    return {
      at: context.clock.now(),
      uptimeS: Math.round(machine.uptimeS()),
      cpu: load && {
        loadPercent: tenth(load.loadPercent),
        cores: load.cores,
        loadAverage: load.loadAverage.map((value) => Math.round(value * 100) / 100),
      },
      mem: mem && {
        ...mem,
        usedPercent: percent(mem.totalBytes - mem.availableBytes, mem.totalBytes),
      },
      disk: root ? diskPart(root) : null,
      tempC: tempC === null ? null : tenth(tempC),
    };
  }

  return definePlugin({
    name: "system",
    version: "1.0.0",
    config: Config,
    commands: {
      ping: {
        summary: "Answers, with the text that it was sent.",
        idempotent: true,
        readsOnly: true,
        concurrency: 4,
        params: v.strictObject({ echo: v.optional(v.pipe(v.string(), v.maxLength(1_024))) }),
        handler: ({ echo }, { clock }) => ({ pong: true, at: clock.now(), echo }),
      },
      info: {
        summary: "What this machine is, the agent on it, and the nonce of this start.",
        idempotent: true,
        readsOnly: true,
        concurrency: 4,
        deadlineMs,
        async handler(_params, context) {
          const [board, mem] = await inTime(context, (part) =>
            Promise.all([part(identity), part(memory)]),
          );
          return {
            ...context.device,
            at: context.clock.now(),
            uptimeS: Math.round(machine.uptimeS()),
            runtime: `node ${process.versions.node}`,
            machine: board,
            memBytes: mem?.totalBytes ?? null,
          };
        },
      },
      metrics: {
        summary: "Load, memory, disk and temperature now; null where there is no sensor.",
        idempotent: true,
        readsOnly: true,
        concurrency: 4,
        deadlineMs,
        handler: (_params, context) => metrics(context),
      },
      processes: {
        summary: "The busiest processes: top 1 to 50 (10), by cpu (default) or mem.",
        idempotent: true,
        readsOnly: true,
        deadlineMs,
        params: ProcessesParams,
        async handler({ top, by }, context) {
          const { total, running, list } =
            (await inTime(context, (part) => part(processes))) ?? empty;
          if (list.length === 0) {
            throw new PluginError("not_available", "This machine does not list its processes.");
          }
          const rank = by === "cpu" ? byCpu : byMemory;
          const first = [...list].sort(rank).slice(0, top).map(processPart);
          return { total, running, by, ...fitReply(first) };
        },
      },
      disks: {
        summary: "The file systems that are mounted and how full they are.",
        idempotent: true,
        readsOnly: true,
        deadlineMs,
        async handler(_params, context) {
          const all = await inTime(context, (part) => part(fileSystems));
          if (!all) throw new PluginError("not_available", "This machine does not list its disks.");
          const sorted = [...all].sort((a, b) => (a.mount < b.mount ? -1 : 1));
          return { total: all.length, ...fitReply(sorted.map(diskPart)) };
        },
      },
    },
    start(context) {
      const { publish_every_s: everyS, publish_topic: topic } = context.config;
      if (everyS > 0) void publishMetrics(context, { everyMs: everyS * 1_000, topic, metrics });
    },
  });
}

type Reading<T> = (nowMs: number) => Promise<T>;

/** Gives `work` a way to read parts of the machine; one that fails or is late answers null. */
async function inTime<T>(
  { clock }: PluginContext,
  work: (part: <P>(read: Reading<P>) => Promise<P | null>) => Promise<T>,
): Promise<T> {
  const done = new AbortController();
  const late = clock.sleep(partMs, done.signal).then(() => null);
  const nowMs = clock.monotonicMs();
  try {
    return await work((read) => Promise.race([read(nowMs).catch(() => null), late]));
  } finally {
    done.abort();
  }
}

/** Ends with the context's signal. What cannot be accepted now is dropped: the next one is newer. */
async function publishMetrics(
  context: PluginContext,
  options: {
    everyMs: number;
    topic: string;
    metrics(context: PluginContext): Promise<object>;
  },
): Promise<void> {
  const { clock, device, log, signal } = context;
  let refused = false;
  for (;;) {
    await clock.sleep(options.everyMs);
    if (signal.aborted) return;
    try {
      const now = await options.metrics(context);
      await context.publish(options.topic, JSON.stringify({ device: device.clientId, ...now }));
      refused = false;
    } catch (error) {
      const code = error instanceof PluginError ? error.code : "unknown";
      if (!refused) log.warn("metrics not accepted", { code });
      refused = true;
    }
  }
}

const empty = { total: 0, running: 0, list: [] as readonly Process[] };

function byCpu(a: Process, b: Process): number {
  return b.cpuPercent - a.cpuPercent || a.pid - b.pid;
}

function byMemory(a: Process, b: Process): number {
  return b.rssBytes - a.rssBytes || a.pid - b.pid;
}

function processPart({ pid, name, user, cpuPercent, memPercent, rssBytes }: Process) {
  return {
    pid,
    name: short(name, 64),
    user: short(user, 32),
    cpuPercent: tenth(cpuPercent),
    memPercent: tenth(memPercent),
    rssBytes,
  };
}

function diskPart({ mount, type, totalBytes, availableBytes, readOnly }: FileSystem) {
  return {
    mount: short(mount, 256),
    type: short(type, 32),
    totalBytes,
    availableBytes,
    usedPercent: percent(totalBytes - availableBytes, totalBytes),
    ...(readOnly && { readOnly }),
  };
}

export default systemPlugin();
