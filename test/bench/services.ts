/** The services that job H compares, each in a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { freePort } from "./contenders.ts";
import { Child } from "./ipc.ts";

export interface Service {
  readonly name: string;
  /** Whether a P2P message needs a subscription of its target. */
  readonly subscribes: boolean;
  /** Why it cannot take part, where that is so. */
  missing?(): string | undefined;
  /** `base`: where its data may be. */
  start(base: string): Promise<RunningService>;
}

export interface RunningService {
  readonly pid: number;
  readonly port: number;
  /** Collects garbage, where there is any. */
  collect(): Promise<unknown>;
  stop(): Promise<void>;
}

const MOSQUITTO = "/usr/sbin/mosquitto";
const LISTENING_MS = 10_000;

export const holdfastService: Service = {
  name: "holdfast cloud",
  subscribes: false,
  start: (base) => startWorker("holdfast", base),
};

/** With its defaults: in memory, everybody may do everything. */
export const aedesService: Service = {
  name: "aedes",
  subscribes: true,
  start: (base) => startWorker("aedes", base),
};

/** As Debian has it, with nothing dropped that is counted; nothing is on disk. */
export const mosquittoService: Service = {
  name: "mosquitto",
  subscribes: true,
  missing: () => (existsSync(MOSQUITTO) ? undefined : "the Debian package mosquitto is missing"),
  start: async (base) => {
    const dir = await mkdtemp(join(base, "holdfast-bench-"));
    const port = await freePort();
    const settings = [
      ...["user root", `listener ${port} 127.0.0.1`, "allow_anonymous true", "log_dest none"],
      ...["persistence false", "set_tcp_nodelay true"],
      ...["max_queued_messages 0", "max_inflight_messages 1000"],
    ];
    const file = join(dir, "mosquitto.conf");
    await writeFile(file, `${settings.join("\n")}\n`);
    const child: ChildProcess = spawn(MOSQUITTO, ["-c", file], { stdio: "ignore" });
    await untilListening(port);
    return {
      pid: child.pid ?? 0,
      port,
      collect: async () => undefined,
      stop: async () => {
        child.kill("SIGKILL");
        await rm(dir, { recursive: true, force: true });
      },
    };
  },
};

async function startWorker(name: string, base: string): Promise<RunningService> {
  const dir = await mkdtemp(join(base, "holdfast-bench-"));
  const child = await Child.start("./worker-service.ts", [name, dir], {
    execArgv: ["--expose-gc"],
  });
  return {
    pid: child.pid,
    port: await child.ask<number>({ do: "port" }),
    collect: () => child.ask({ do: "collect" }),
    stop: async () => {
      await child.stop();
      await rm(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function untilListening(port: number): Promise<void> {
  const deadline = performance.now() + LISTENING_MS;
  for (;;) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect({ host: "127.0.0.1", port });
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
    if (open) return;
    if (performance.now() > deadline) throw new Error(`Nothing listens on port ${port}.`);
    await pause(50);
  }
}
