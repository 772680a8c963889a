/** Job H: memory of a connection, and P2P to 2,000 devices, for one service in one round. */
import { setTimeout as pause } from "node:timers/promises";
import type { FleetReport } from "../support/fleet/fleet.ts";
import { startFleet } from "../support/fleet/start-fleet.ts";
import type { Child } from "./ipc.ts";
import { privateMb } from "./measure.ts";
import type { RunningService, Service } from "./services.ts";

/** Nothing new for this long: what has not come by then is lost. */
const QUIET_MS = 5_000;
/** For what a service does behind a connection that was accepted. */
const IDLE_MS = 1_000;
const PREFIX = "GID_demo@@@device-";
const COMMANDERS = 16;
/** Commands of one commander that wait for their PUBACK while the service is flooded. */
const WINDOW = 64;
const COMMANDS_PER_SECOND = 1_000;
/** Connected and gone before anything is measured: code is compiled, pools are filled. */
const WARM_UP = 200;

export interface ServiceOrder {
  readonly devices: number;
  readonly seconds: number;
  /** Messages of the flood; 0: none. */
  readonly flood: number;
  /** Whether the commanders have persistent sessions: a P2P message is then kept for its target. */
  readonly kept: boolean;
}

export interface ServiceLife {
  /** Of 1,024 bytes, private and not to be dropped, for each idle connection. */
  readonly connectionKb: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly deliveredPerSecond: number;
  readonly sent: number;
  readonly lost: number;
  readonly repeated: number;
}

export async function serviceLife(
  base: string,
  service: Service,
  order: ServiceOrder,
): Promise<ServiceLife> {
  const running = await service.start(base);
  const devices = await startFleet(running.port);
  const commanders = await startFleet(running.port);
  try {
    const connectionKb = await connectIdle(running, devices, order.devices);
    if (service.subscribes) await devices.ask({ do: "subscribe", filter: "GW_DOWN/p2p/{id}" });
    const from = { prefix: "GID_demo@@@commander-", count: COMMANDERS, clean: !order.kept };
    await commanders.ask({ do: "connect", ...from });
    const run = (count: number, how: object): Promise<Run> =>
      command({ devices, commanders, count, targetCount: order.devices, how });
    const warm = await run(COMMANDS_PER_SECOND, { do: "send", perSecond: COMMANDS_PER_SECOND });
    const count = order.seconds * COMMANDS_PER_SECOND;
    const steady = await run(count, { do: "send", perSecond: COMMANDS_PER_SECOND });
    const flood = await run(order.flood, { do: "flood", window: WINDOW });
    const all = [warm, steady, flood];
    return {
      connectionKb,
      p50Ms: steady.report.latencyMs.p50,
      p99Ms: steady.report.latencyMs.p99,
      deliveredPerSecond: (flood.report.received * 1_000) / flood.report.receivingMs,
      sent: all.reduce((sum, one) => sum + one.sent, 0),
      lost: all.reduce((sum, one) => sum + one.sent - one.report.received, 0),
      repeated: all.reduce((sum, one) => sum + one.report.repeated, 0),
    };
  } finally {
    await Promise.all([devices.stop(), commanders.stop()]);
    await running.stop();
  }
}

/** KB for each of `count` idle connections with persistent sessions and no subscription. */
async function connectIdle(running: RunningService, fleet: Child, count: number): Promise<number> {
  await fleet.ask({ do: "connect", prefix: "GID_demo@@@warm-", count: WARM_UP, clean: true });
  await fleet.ask({ do: "end" });
  await pause(IDLE_MS);
  await running.collect();
  const before = privateMb(running.pid);
  await fleet.ask({ do: "connect", prefix: PREFIX, count, clean: false });
  await pause(IDLE_MS);
  await running.collect();
  return ((privateMb(running.pid) - before) * 1_024) / count;
}

interface Run {
  readonly sent: number;
  readonly report: FleetReport;
}

async function command(order: {
  readonly devices: Child;
  readonly commanders: Child;
  readonly count: number;
  readonly targetCount: number;
  readonly how: object;
}): Promise<Run> {
  const { devices, commanders, count, targetCount, how } = order;
  await devices.ask({ do: "reset", total: count });
  await commanders.ask({ do: "reset", total: 0 });
  const topic = "GW_DOWN/p2p/{id}";
  await commanders.ask({ do: "send", ...how, count, topic, targets: PREFIX, targetCount });
  await commanders.ask({ do: "settled", receive: 0, quietMs: QUIET_MS });
  const report = await devices.ask<FleetReport>({
    do: "settled",
    receive: count,
    quietMs: QUIET_MS,
  });
  if (report.misdirected + report.lost > 0) {
    throw new Error(`${report.misdirected} to the wrong device, ${report.lost} connections lost`);
  }
  return { sent: count, report };
}
