/** The local service with an ordered topic and the topic of the presence notices. */
import type { CloudDeps, CloudOptions, Directory } from "../../cloud/cloud.ts";
import { type StartedCloud, startCloud } from "./cloud.ts";
import { FakeClock } from "./fake-clock.ts";
import { MqClient } from "./mq-client.ts";

const mqDirectory: Directory = {
  accounts: new Map([["AK", "SK"]]),
  instanceId: "mqtt-local",
  groups: new Set(["GID_demo", "GID_quiet"]),
  topics: new Map([
    ["GW_UP", { ordered: false }],
    ["GW_DOWN", { ordered: false }],
    ["GW_ORDERED", { ordered: true }],
    ["GID_demo_MQTT", { ordered: false }],
  ]),
};

export interface StartedMq extends StartedCloud {
  readonly mq: MqClient;
  readonly clock: FakeClock;
}

/** Under a clock in the hand of the test. */
export async function startMq(
  options: Partial<CloudOptions> = {},
  deps: Partial<CloudDeps> & { readonly clock?: FakeClock } = {},
): Promise<StartedMq> {
  const clock = deps.clock ?? new FakeClock();
  const started = await startCloud({ directory: mqDirectory, ...options }, { ...deps, clock });
  const mq = new MqClient(started.httpPort, undefined, () => clock.wallMs());
  return { ...started, mq, clock };
}
