import { Child } from "../../bench/ipc.ts";

/** A fleet in a process of its own, for a service on this port of the loopback. */
export function startFleet(port: number): Promise<Child> {
  const program = new URL("./fleet-process.ts", import.meta.url).href;
  return Child.start(program, [String(port), "AK", "SK", "mqtt-local"]);
}
