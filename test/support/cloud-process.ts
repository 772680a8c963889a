/** `holdfast cloud` as a process of its own, for what only the end of a process shows. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { waitFor } from "./wait-for.ts";

const main = fileURLToPath(new URL("../../agent/main.ts", import.meta.url));

export interface CloudProcess {
  readonly mqttPort: number;
  readonly httpPort: number;
  /** All of them; 0 where it does not listen. */
  readonly ports: Readonly<Record<"mqtt" | "mqtts" | "ws" | "wss" | "http", number>>;
  /** Everything on stdout so far. */
  readonly output: () => string;
  /** Resolves with the exit status, or the signal that ended it. */
  kill(signal: "SIGKILL" | "SIGTERM"): Promise<number | string>;
}

/** Starts it on free ports with `--data dir`; ends with the test. */
export async function spawnCloud(
  dir: string,
  extra: readonly string[] = [],
): Promise<CloudProcess> {
  const words = ["cloud", "--data", dir, "--mqtt-port", "auto", "--http-port", "auto", ...extra];
  const child: ChildProcess = spawn(process.execPath, [main, ...words], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  let output = "";
  let errors = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stderr?.on("data", (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const ended = once(child, "exit").then(([code, signal]) => (code ?? signal) as number | string);
  const ready = await waitFor(() => child.exitCode !== null || /^ready (mqtt=.*)$/m.exec(output), {
    what: "the line that says ready",
  });
  if (ready === true) throw new Error(`cloud ended with ${await ended}: ${errors}`);
  const port = (name: string): number =>
    Number(new RegExp(`\\b${name}=\\S*:(\\d+)`).exec(ready[1] ?? "")?.[1] ?? 0);
  return {
    mqttPort: port("mqtt"),
    httpPort: port("http"),
    ports: {
      ...{ mqtt: port("mqtt"), mqtts: port("mqtts"), http: port("http") },
      ...{ ws: port("ws"), wss: port("wss") },
    },
    output: () => output,
    kill: (signal) => {
      child.kill(signal);
      return ended;
    },
  };
}
