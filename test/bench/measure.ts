/** What a process has cost, as the kernel counts it: the same way for every contender. */
import { readdirSync, readFileSync } from "node:fs";

export interface Cost {
  /** User and system time of all threads, in microseconds. */
  readonly cpuUs: number;
  /** Bytes that the process caused to be written to the block device. */
  readonly writtenBytes: number;
}

export function costOf(pid: number): Cost {
  // Not the ticks of /proc/PID/stat: a process that wakes with a timer of a millisecond is caught
  // by nearly each of them, however little it does.
  const threads = readdirSync(`/proc/${pid}/task`);
  const ns = threads.reduce((sum, thread) => sum + onCpuNs(`/proc/${pid}/task/${thread}`), 0);
  const io = readFileSync(`/proc/${pid}/io`, "utf8");
  return {
    cpuUs: ns / 1_000,
    writtenBytes: Number(/^write_bytes: (\d+)/m.exec(io)?.[1]),
  };
}

/** The scheduler's own account; 0 for a thread that has just ended. */
function onCpuNs(task: string): number {
  try {
    return Number(readFileSync(`${task}/schedstat`, "utf8").split(" ")[0]);
  } catch {
    return 0;
  }
}

export function since(before: Cost, now: Cost): Cost {
  return {
    cpuUs: now.cpuUs - before.cpuUs,
    writtenBytes: now.writtenBytes - before.writtenBytes,
  };
}

/**
 * Private memory that cannot be dropped, in MB of 1,048,576 bytes: dirty pages and swap. Pages of
 * mapped table files are clean; the kernel takes them back when it wants to.
 */
export function privateMb(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const kb = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)?.[1]);
  return (kb("Private_Dirty") + kb("Swap")) / 1024;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}
