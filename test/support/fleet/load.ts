/**
 * A day's work of the local service in small: devices that send telemetry, commanders that send P2P
 * messages to random ones, a collector that has subscribed to everything that goes up. The service
 * is a process of its own with a data folder of its own; so are the devices, and the others.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Child } from "../../bench/ipc.ts";
import { waitFor } from "../wait-for.ts";
import type { FleetReport } from "./fleet.ts";
import { startFleet } from "./start-fleet.ts";

export interface LoadOrder {
  readonly devices: number;
  readonly seconds: number;
  /** P2P messages a second, of all commanders together. */
  readonly commandsPerSecond: number;
}

export interface LoadVerdict {
  /** Messages sent, up and down. */
  readonly sent: number;
  readonly acked: number;
  readonly delivered: number;
  readonly repeated: number;
  readonly misdirected: number;
  readonly lostConnections: number;
  readonly up: FleetReport;
  readonly down: FleetReport;
}

const DEVICE = "GID_demo@@@device-";
const COMMANDERS = 8;
/** Nothing new for this long: what has not come by then is lost. Longer than an ack timeout. */
const QUIET_MS = 12_000;
/** Of what the service logs, in characters. */
const ERRORS_KEPT = 4_000;
const main = fileURLToPath(new URL("../../../agent/main.ts", import.meta.url));
const SETTINGS = `[[accounts]]
access_key = "AK"
secret = "SK"
[instance]
id = "mqtt-local"
groups = ["GID_demo"]
topics = [{ name = "GW_UP" }, { name = "GW_DOWN" }, { name = "GID_demo_MQTT" }]
`;

/** `dir`: an empty folder for the service. */
export async function loadCloud(dir: string, order: LoadOrder): Promise<LoadVerdict> {
  await writeFile(join(dir, "cloud.toml"), SETTINGS, { mode: 0o600 });
  const service = spawn(
    process.execPath,
    [main, "cloud", "--data", dir, "--mqtt-port", "auto", "--http-port", "auto"],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const children: Child[] = [];
  try {
    const port = await portOf(service);
    for (let i = 0; i < 2; i++) children.push(await startFleet(port));
    const [devices, others] = children as [Child, Child];
    return await drive(devices, others, order);
  } finally {
    for (const child of children) await child.stop();
    if (service.exitCode === null && service.signalCode === null) {
      const ended = once(service, "exit");
      service.kill("SIGKILL");
      await ended;
    }
  }
}

async function drive(devices: Child, others: Child, order: LoadOrder): Promise<LoadVerdict> {
  const { devices: count, seconds, commandsPerSecond } = order;
  const ups = count * seconds;
  const downs = commandsPerSecond * seconds;
  // Persistent sessions: what a sender was acknowledged is kept for its receiver, on disk.
  await others.ask({ do: "connect", prefix: "GID_demo@@@collector-", count: 1, clean: false });
  await others.ask({ do: "subscribe", filter: "GW_UP/#" });
  const commanders = { prefix: "GID_demo@@@commander-", count: COMMANDERS, clean: false };
  await others.ask({ do: "connect", ...commanders });
  await devices.ask({ do: "connect", prefix: DEVICE, count, clean: false });
  await devices.ask({ do: "reset", total: downs });
  await others.ask({ do: "reset", total: ups });
  const commands = { count: downs, perSecond: commandsPerSecond, topic: "GW_DOWN/p2p/{id}" };
  await Promise.all([
    devices.ask({ do: "send", count: ups, perSecond: count, topic: "GW_UP/telemetry" }),
    others.ask({ do: "send", ...commands, targets: DEVICE, targetCount: count }),
  ]);
  const [down, up] = await Promise.all([
    devices.ask<FleetReport>({ do: "settled", receive: downs, quietMs: QUIET_MS }),
    others.ask<FleetReport>({ do: "settled", receive: ups, quietMs: QUIET_MS }),
  ]);
  const sum = (key: "sent" | "acked" | "received" | "repeated" | "misdirected" | "lost"): number =>
    down[key] + up[key];
  return {
    sent: sum("sent"),
    acked: sum("acked"),
    delivered: sum("received"),
    repeated: sum("repeated"),
    misdirected: sum("misdirected"),
    lostConnections: sum("lost"),
    up,
    down,
  };
}

async function portOf(service: ChildProcess): Promise<number> {
  let output = "";
  let errors = "";
  service.stderr?.on("data", (chunk: Buffer) => {
    errors = `${errors}${chunk}`.slice(-ERRORS_KEPT);
  });
  service.stdout?.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  const found = await waitFor(
    () => service.exitCode !== null || /^ready mqtt=\S*:(\d+)/m.exec(output),
    { what: "the line that says ready" },
  );
  if (found === true) throw new Error(`cloud ended with ${service.exitCode}: ${errors}`);
  return Number(found[1]);
}
