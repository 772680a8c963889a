/**
 * Who holds a lock, in a form that another process can judge later. A process id alone names
 * another process after a reboot or once the numbers have gone round, so its start time and the
 * boot stand beside it. Where the system does not tell them, the process id has to do.
 */
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

export interface ProcessIdentity {
  readonly host: string;
  readonly pid: number;
  /** Clock ticks between boot and the start of the process; 0 where the system does not tell. */
  readonly startedTicks: number;
  readonly bootId: string;
  /** Process ids mean something only within their namespace. */
  readonly pidNamespace: string;
}

export interface ProcessTable {
  self(): ProcessIdentity;
  /** False only when that process is certainly gone; what cannot be judged counts as alive. */
  mayLive(identity: ProcessIdentity): boolean;
}

export const systemProcesses: ProcessTable = {
  self: () => ({
    host: hostname(),
    pid: process.pid,
    startedTicks: startedTicks(process.pid) ?? 0,
    ...whereabouts(),
  }),
  mayLive: (identity) => {
    if (identity.host !== hostname()) return true;
    const here = whereabouts();
    if (identity.bootId !== here.bootId) return false;
    if (identity.pidNamespace !== here.pidNamespace) return true;
    if (!processExists(identity.pid)) return false;
    return identity.startedTicks === (startedTicks(identity.pid) ?? identity.startedTicks);
  },
};

function whereabouts(): { bootId: string; pidNamespace: string } {
  return {
    bootId: attempt(() => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()) ?? "",
    pidNamespace: attempt(() => readlinkSync("/proc/self/ns/pid")) ?? "",
  };
}

/** Field 22 of /proc/PID/stat; the name in field 2 may itself hold spaces and brackets. */
function startedTicks(pid: number): number | undefined {
  const stat = attempt(() => readFileSync(`/proc/${pid}/stat`, "utf8"));
  const ticks = Number(stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
  return Number.isSafeInteger(ticks) ? ticks : undefined;
}

function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it lives and belongs to somebody else.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
