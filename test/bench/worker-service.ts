/**
 * A broker of Node.js whose connections are measured: `worker-service.ts holdfast DIR` is the local
 * service on disk as the subcommand runs it at a first start, `worker-service.ts aedes` is aedes with
 * its defaults, in memory. Both say their port, and collect garbage when asked.
 */
import { once } from "node:events";
import { createServer } from "node:net";
import { Aedes } from "aedes";
import { silentLog } from "../../agent/core/log.ts";
import { SystemClock } from "../../agent/core/system-clock.ts";
import { SystemRandom } from "../../agent/core/system-random.ts";
import { LocalCloud } from "../../cloud/cloud.ts";
import { answerQuestions } from "./ipc.ts";

/** As at a first start: with the presence notices of the group. */
const TOPICS = ["GW_UP", "GW_DOWN", "GID_demo_MQTT"];
const [name, dir = ""] = process.argv.slice(2);
const port = name === "aedes" ? await startAedes() : await startHoldfast();

answerQuestions({
  port: () => port,
  /** Needs --expose-gc. */
  collect: () => {
    for (let i = 0; i < 3; i++) globalThis.gc?.();
  },
});

async function startHoldfast(): Promise<number> {
  const cloud = new LocalCloud(
    {
      service: {
        listen: { host: "127.0.0.1", mqtt: { port: 0 } },
        directory: {
          accounts: new Map([["AK", "SK"]]),
          instanceId: "mqtt-local",
          groups: new Set(["GID_demo"]),
          topics: new Map(TOPICS.map((topic) => [topic, { ordered: false }])),
        },
      },
      dataDir: dir,
    },
    { clock: new SystemClock(), random: new SystemRandom(), log: silentLog },
  );
  await cloud.start(new AbortController().signal);
  return cloud.ready?.mqtt?.port ?? 0;
}

async function startAedes(): Promise<number> {
  const broker = await Aedes.createBroker();
  const server = createServer(broker.handle);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return address !== null && typeof address === "object" ? address.port : 0;
}
