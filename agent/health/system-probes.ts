/** The one file of the agent that imports systeminformation. */
import { statfs } from "node:fs/promises";
import { cpuTemperature, currentLoad, mem } from "systeminformation";
import type { SystemProbes } from "./probes.ts";

export function systemProbes(options: { readonly stateDir: string }): SystemProbes {
  return {
    cpu: async () => {
      const { currentLoad: loadPercent, cpus } = await currentLoad();
      return { loadPercent, cores: cpus.length };
    },
    mem: async () => {
      const { total, available } = await mem();
      return { totalBytes: total, availableBytes: available };
    },
    // The system call, not systeminformation's list of all mounts: that runs `df`, which hangs on
    // the first network share that is gone, for a folder that is not on it.
    disk: async () => {
      const { bsize, blocks, bavail } = await statfs(options.stateDir);
      return { totalBytes: bsize * blocks, availableBytes: bsize * bavail };
    },
    tempC: async () => (await cpuTemperature()).main,
  };
}
