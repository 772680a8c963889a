/** The local service on free ports of the loopback, gone when the running test is. */
import { onTestFinished } from "vitest";
import { silentLog } from "../../agent/core/log.ts";
import { SystemClock } from "../../agent/core/system-clock.ts";
import { SystemRandom } from "../../agent/core/system-random.ts";
import type { Store } from "../../agent/store/store.ts";
import { Cloud, type CloudDeps, type CloudOptions, type Directory } from "../../cloud/cloud.ts";
import { MemoryStore } from "./memory-store.ts";

export interface StartedCloud {
  readonly cloud: Cloud;
  readonly store: Store;
  readonly mqttPort: number;
  readonly httpPort: number;
  stop(): Promise<void>;
}

/** Account AK with secret SK, instance mqtt-local, groups GID_demo and GID_other. */
const demoDirectory: Directory = {
  accounts: new Map([["AK", "SK"]]),
  instanceId: "mqtt-local",
  groups: new Set(["GID_demo", "GID_other"]),
  topics: new Map([
    ["GW_UP", { ordered: false }],
    ["GW_DOWN", { ordered: false }],
  ]),
};

/** Without a store it keeps everything in memory, with the system's clock and without a log. */
export async function startCloud(
  options: Partial<CloudOptions> = {},
  deps: Partial<CloudDeps> = {},
): Promise<StartedCloud> {
  const store = deps.store ?? new MemoryStore();
  const cloud = new Cloud(
    {
      listen: { host: "127.0.0.1", mqtt: { port: 0 }, http: { port: 0 } },
      directory: demoDirectory,
      ...options,
    },
    {
      clock: new SystemClock(),
      random: new SystemRandom(),
      log: silentLog,
      tokenKey: () => Promise.resolve(Buffer.alloc(32, 7)),
      ...deps,
      store,
    },
  );
  await cloud.start(new AbortController().signal);
  const stop = (): Promise<void> => cloud.stop(AbortSignal.abort());
  onTestFinished(stop);
  const ready = cloud.ready;
  return {
    cloud,
    store,
    mqttPort: ready?.mqtt?.port ?? 0,
    httpPort: ready?.http?.port ?? 0,
    stop,
  };
}
