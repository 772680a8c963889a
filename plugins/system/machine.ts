/** The one file of this plugin that asks systeminformation; the others see a `Machine`. */
import { loadavg, uptime } from "node:os";
import {
  cpu,
  cpuTemperature,
  currentLoad,
  fsSize,
  mem,
  osInfo,
  processes,
  system,
} from "systeminformation";

export interface Machine {
  identity(): Promise<Identity>;
  cpu(): Promise<{ loadPercent: number; cores: number; loadAverage: readonly number[] }>;
  memory(): Promise<Memory>;
  /** Degrees Celsius; null without a sensor. */
  temperature(): Promise<number | null>;
  fileSystems(): Promise<readonly FileSystem[]>;
  processes(): Promise<{ total: number; running: number; list: readonly Process[] }>;
  uptimeS(): number;
}

/** Nothing that identifies the hardware: no serial numbers, no addresses. */
export interface Identity {
  readonly hostname: string;
  readonly os: string;
  readonly kernel: string;
  readonly arch: string;
  readonly model: string | null;
  readonly cpu: string;
  readonly cores: number;
}

export interface Memory {
  readonly totalBytes: number;
  readonly availableBytes: number;
  readonly swapTotalBytes: number;
  readonly swapUsedBytes: number;
}

export interface FileSystem {
  readonly mount: string;
  readonly type: string;
  readonly totalBytes: number;
  readonly availableBytes: number;
  readonly readOnly: boolean;
}

export interface Process {
  readonly pid: number;
  readonly name: string;
  readonly user: string;
  readonly cpuPercent: number;
  readonly memPercent: number;
  readonly rssBytes: number;
}

export const thisMachine: Machine = {
  async identity() {
    const [os, board, processor] = await Promise.all([osInfo(), system(), cpu()]);
    return {
      hostname: os.hostname,
      os: `${os.distro} ${os.release}`.trim(),
      kernel: os.kernel,
      arch: os.arch,
      model: `${board.manufacturer} ${board.model}`.trim() || null,
      cpu: `${processor.manufacturer} ${processor.brand}`.trim(),
      cores: processor.cores,
    };
  },
  async cpu() {
    const load = await currentLoad();
    return { loadPercent: load.currentLoad, cores: load.cpus.length, loadAverage: loadavg() };
  },
  async memory() {
    const { total, available, swaptotal, swapused } = await mem();
    return {
      totalBytes: total,
      availableBytes: available,
      swapTotalBytes: swaptotal,
      swapUsedBytes: swapused,
    };
  },
  temperature: async () => (await cpuTemperature()).main,
  async fileSystems() {
    return (await fsSize()).map(({ mount, type, size, available, rw }) => ({
      mount,
      type,
      totalBytes: size,
      availableBytes: available,
      readOnly: rw === false,
    }));
  },
  async processes() {
    const { all, running, list } = await processes();
    return {
      total: all,
      running,
      list: list.map(({ pid, name, user, cpu, mem, memRss }) => ({
        pid,
        name,
        user,
        cpuPercent: cpu,
        memPercent: mem,
        rssBytes: memRss * 1_024,
      })),
    };
  },
  uptimeS: () => uptime(),
};
