/** A fleet in a process of its own: `fleet-process.ts PORT ACCESS_KEY SECRET INSTANCE`. */
import { answerQuestions } from "../../bench/ipc.ts";
import { type Devices, Fleet, type Load } from "./fleet.ts";

const [port, accessKey, secret, instanceId] = process.argv.slice(2) as [string, ...string[]];
const fleet = new Fleet({
  port: Number(port),
  accessKey: accessKey ?? "",
  secret: secret ?? "",
  instanceId: instanceId ?? "",
});

answerQuestions({
  connect: (devices: Devices) => fleet.connect(devices),
  subscribe: ({ filter }: { filter: string }) => fleet.subscribe(filter),
  reset: ({ total }: { total: number }) => fleet.reset(total),
  send: (load: Load) => fleet.send(load),
  flood: ({ window, ...load }: Load & { window: number }) => fleet.flood(load, window),
  settled: ({ receive, quietMs }: { receive: number; quietMs: number }) =>
    fleet.settled(receive, quietMs),
  end: () => fleet.end(),
});
