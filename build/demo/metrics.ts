/** Readings of this machine, cheap enough for twenty a second. */
import { availableParallelism, cpus, freemem, loadavg, totalmem, uptime } from "node:os";

export interface Reading {
  /** Unix milliseconds. */
  readonly at: number;
  /** Of all cores, over the last second or so; null before there is a second to look at. */
  readonly cpuPercent: number | null;
  readonly cores: number;
  readonly load1: number;
  readonly freeMb: number;
  readonly totalMb: number;
  readonly uptimeS: number;
}

interface CpuTimes {
  readonly atMs: number;
  readonly idleMs: number;
  readonly totalMs: number;
}

const CPU_SPAN_MS = 1_000;
const MB = 1_048_576;

/** Makes a function that reads. */
export function machineReader(): () => Reading {
  let before = cpuTimes();
  let cpuPercent: number | null = null;
  return () => {
    if (performance.now() - before.atMs >= CPU_SPAN_MS) {
      const now = cpuTimes();
      const totalMs = now.totalMs - before.totalMs;
      const busy = totalMs > 0 ? 1 - (now.idleMs - before.idleMs) / totalMs : 0;
      cpuPercent = Math.round(busy * 1_000) / 10;
      before = now;
    }
    return {
      at: Date.now(),
      cpuPercent,
      cores: availableParallelism(),
      load1: Math.round((loadavg()[0] ?? 0) * 100) / 100,
      freeMb: Math.round(freemem() / MB),
      totalMb: Math.round(totalmem() / MB),
      uptimeS: Math.round(uptime()),
    };
  };
}

function cpuTimes(): CpuTimes {
  let idleMs = 0;
  let totalMs = 0;
  for (const { times } of cpus()) {
    idleMs += times.idle;
    totalMs += times.user + times.nice + times.sys + times.idle + times.irq;
  }
  return { atMs: performance.now(), idleMs, totalMs };
}
