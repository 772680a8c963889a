/** The contenders, each a small adapter between the jobs and a process. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { Child } from "./ipc.ts";
import type { PayloadKind } from "./payloads.ts";

export interface Order {
  readonly count: number;
  readonly callers: number;
  readonly payloads: PayloadKind;
}

export interface Running {
  /** The process that is measured. */
  readonly pid: number;
  /** Milliseconds until all were accepted. */
  accept(order: Order): Promise<number>;
  /** From here on it may reach the sink. */
  connect(): Promise<void>;
  /** Resolves when what was delivered is forgotten; without it a pause has to do. */
  settle?(): Promise<void>;
  stop(): Promise<void>;
  /** The process, where it can be asked. */
  readonly child?: Child;
}

export interface Contender {
  readonly name: string;
  /**
   * Whole outages that it lives through before the one that is measured, as an agent or a broker
   * that has run for a day did.
   */
  readonly outagesBefore: number;
  /** Why it cannot take part, where that is so. */
  missing?(): string | undefined;
  start(place: Place): Promise<Running>;
}

export interface Place {
  readonly dir: string;
  readonly sinkPort: number;
  /** In flight at most, for all that can be told. */
  readonly window: number;
}

/** The flags that ship (design section 6). */
export const SHIPPED = {
  execArgv: ["--no-deprecation", "--max-semi-space-size=1", "--max-old-space-size=96"],
  env: { ...process.env, MALLOC_ARENA_MAX: "2" },
};

interface OursOptions {
  /** none: no syncs at all, where only memory is looked at. */
  readonly syncDelayMs?: number | "none";
  readonly shipped?: boolean;
}

export async function startOurs(
  { dir, sinkPort, window }: Place,
  { syncDelayMs = 0, shipped = false }: OursOptions = {},
): Promise<Running & { readonly child: Child }> {
  const running = await startWorker(
    "./worker-ours.ts",
    [dir, String(sinkPort), String(syncDelayMs), String(window)],
    shipped ? SHIPPED : {},
  );
  const settle = async (): Promise<void> => {
    await running.child.ask({ do: "settled" });
    await running.child.ask({ do: "compact" });
  };
  return { ...running, settle };
}

/** Enough for the code of a drain to be compiled as it stays. */
const OUTAGES_BEFORE = 2;

export const ours: Contender = {
  name: "holdfast, callers inside",
  outagesBefore: OUTAGES_BEFORE,
  start: (place) => startOurs(place),
};

/** The first outage after its start. */
export const oursFresh: Contender = {
  ...ours,
  name: "holdfast, just started",
  outagesBefore: 0,
};

export const oursBySocket: Contender = {
  name: "holdfast, producers' socket",
  outagesBefore: OUTAGES_BEFORE,
  start: async (place) => {
    const running = await startOurs(place);
    const socket = await running.child.ask<string>({ do: "openSocket" });
    const feeder = await Child.start("./feeder.ts", ["http", socket]);
    return {
      ...running,
      accept: (order) => feeder.ask({ do: "feed", ...order }),
      stop: async () => {
        await feeder.stop();
        await running.stop();
      },
    };
  },
};

export const mqttJsMemory: Contender = {
  name: "mqtt.js, memory",
  outagesBefore: 0, // One takes it a minute, and it does not get faster.
  start: ({ dir, sinkPort }) =>
    startWorker("./worker-mqttjs.ts", [dir, String(sinkPort), "memory"], {}),
};

export const mqttJsLevel: Contender = {
  name: "mqtt.js, mqtt-level-store",
  outagesBefore: 0,
  start: ({ dir, sinkPort }) =>
    startWorker("./worker-mqttjs.ts", [dir, String(sinkPort), "level"], {}),
};

const MOSQUITTO = "/usr/sbin/mosquitto";

/** As a sensible operator makes it durable: nothing is dropped, everything saved each second. */
export const mosquitto: Contender = {
  name: "mosquitto bridge",
  outagesBefore: OUTAGES_BEFORE,
  missing: () => (existsSync(MOSQUITTO) ? undefined : "the Debian package mosquitto is missing"),
  start: async ({ dir, sinkPort, window }) => {
    const port = await freePort();
    await mkdir(dir, { recursive: true });
    const settings = [
      "user root",
      `listener ${port} 127.0.0.1`,
      "allow_anonymous true",
      "log_type error",
      "log_dest none",
      "set_tcp_nodelay true",
      "persistence true",
      `persistence_location ${dir}/`,
      "autosave_interval 1",
      "max_queued_messages 0",
      "max_queued_bytes 0",
      `max_inflight_messages ${window}`,
      "connection out",
      `address 127.0.0.1:${sinkPort}`,
      "topic # out 1",
      "cleansession false",
      "notifications false",
      "try_private false",
      "bridge_attempt_unsubscribe false",
      "bridge_protocol_version mqttv311",
      "restart_timeout 1",
    ];
    const file = join(dir, "mosquitto.conf");
    await writeFile(file, `${settings.join("\n")}\n`);
    const process: ChildProcess = spawn(MOSQUITTO, ["-c", file], { stdio: "ignore" });
    await pause(500);
    const feeder = await Child.start("./feeder.ts", ["mqtt", String(port)]);
    return {
      pid: process.pid ?? 0,
      accept: (order) => feeder.ask({ do: "feed", ...order }),
      connect: async () => undefined, // It tries by itself.
      stop: async () => {
        await feeder.stop();
        process.kill("SIGKILL");
      },
    };
  },
};

async function startWorker(
  script: string,
  args: readonly string[],
  options: Parameters<typeof Child.start>[2],
): Promise<Running & { readonly child: Child }> {
  const child = await Child.start(script, args, options);
  return {
    pid: child.pid,
    child,
    accept: (order) => child.ask({ do: "accept", ...order }),
    connect: () => child.ask({ do: "connect" }),
    stop: () => child.stop(),
  };
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
