/** What a process has cost, as the kernel counts it: the same way for every contender. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

export interface Cost {
  /** User and system time of all threads, in microseconds; the kernel counts in ticks. */
  readonly cpuUs: number;
  /** Bytes that the process caused to be written to the block device. */
  readonly writtenBytes: number;
}

const TICKS_A_SECOND = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

export function costOf(pid: number): Cost {
  // The name in parentheses may hold blanks: count from its end.
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticks = Number(fields[11]) + Number(fields[12]);
  const io = readFileSync(`/proc/${pid}/io`, "utf8");
  return {
    cpuUs: (ticks * 1e6) / TICKS_A_SECOND,
    writtenBytes: Number(/^write_bytes: (\d+)/m.exec(io)?.[1]),
  };
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
