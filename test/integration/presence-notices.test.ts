/** `presence` of a commander where the status query does not know: the notices say. */

import { mkdir, readFile } from "node:fs/promises";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { silentLog } from "../../agent/core/log.ts";
import type { SystemClock } from "../../agent/core/system-clock.ts";
import { SystemRandom } from "../../agent/core/system-random.ts";
import { Commander, systemProcesses } from "../../cloud/operator/operator.ts";
import type { FakeClock } from "../support/fake-clock.ts";
import { MqClient } from "../support/mq-client.ts";
import { startMq } from "../support/mq-cloud.ts";
import { RawClient } from "../support/raw-client.ts";
import { tempDir } from "../support/temp-dir.ts";
import { waitFor } from "../support/wait-for.ts";

const never = new AbortController().signal;

/** In front of the service: the status query is unknown, or gone as in later editions. */
async function inFrontOf(httpPort: number, query: "unknown" | "gone"): Promise<string> {
  const server = createServer((incoming, outgoing) => {
    if (incoming.url?.startsWith("/route/")) {
      const body = { code: 0, success: true, online: -1, message: "" };
      outgoing.writeHead(query === "gone" ? 404 : 200);
      outgoing.end(query === "gone" ? "not here" : JSON.stringify(body));
      return;
    }
    const { method, url, headers } = incoming;
    const onward = request({ port: httpPort, host: "127.0.0.1", method, path: url, headers });
    onward.on("response", (response) => {
      outgoing.writeHead(response.statusCode ?? 0);
      response.pipe(outgoing);
    });
    incoming.pipe(onward);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function commanderOf(http: string, clock: FakeClock | SystemClock, stateDir?: string) {
  const dir = stateDir ?? join(await tempDir(), "state");
  await mkdir(dir, { recursive: true });
  const commander = new Commander(
    {
      clientId: "GID_demo@@@console",
      profile: "lmq",
      down: "GW_DOWN",
      topicMax: 128,
      stateDir: dir,
      account: { accessKey: "AK", secret: () => "SK", http, instanceId: "mqtt-local" },
    },
    {
      clock,
      random: new SystemRandom(),
      log: silentLog,
      processes: systemProcesses,
      connect: () => {
        throw new Error("nothing is sent");
      },
    },
  );
  return { commander, dir };
}

it.each(["unknown", "gone"] as const)("a status query that is %s", async (query) => {
  const { httpPort, mqttPort, clock, mq } = await startMq();
  const http = await inFrontOf(httpPort, query);
  const stays = await RawClient.connect(mqttPort, { clientId: "GID_demo@@@stays" });
  const left = await RawClient.connect(mqttPort, { clientId: "GID_demo@@@left" });
  await left.disconnect();
  await waitFor(async () => (await mq.consume("GID_demo_MQTT", "counter")).length > 0);
  const { commander, dir } = await commanderOf(http, clock);
  const ask = () => commander.presence(["stays", "left", "never"], never);
  const known = (device: string, online: boolean) => ({
    device: `GID_demo@@@${device}`,
    online,
    connections: online ? 1 : 0,
    source: "notices",
  });
  await waitFor(async () => (await ask())[1]?.online === false);
  expect((await ask()).slice(0, 2)).toEqual([known("stays", true), known("left", false)]);
  expect((await ask())[2]).toMatchObject({ online: null });

  // What was read is confirmed, and known to the next process.
  await stays.drop();
  const other = await commanderOf(http, clock, dir);
  await waitFor(async () => {
    const [found] = await other.commander.presence(["stays"], never);
    return found?.online === false;
  });
  const file = JSON.parse(await readFile(join(dir, "presence.json"), "utf8")) as {
    consumer: string;
  };
  await clock.advance(60_000);
  const rest = await new MqClient(httpPort, undefined, () => clock.wallMs()).consume(
    "GID_demo_MQTT",
    file.consumer,
  );
  expect(rest).toEqual([]);
});

it("what was not read for longer than two days is not believed", async () => {
  const { httpPort, mqttPort, clock } = await startMq();
  const http = await inFrontOf(httpPort, "unknown");
  const client = await RawClient.connect(mqttPort, { clientId: "GID_demo@@@gw" });
  const { commander } = await commanderOf(http, clock);
  await waitFor(async () => (await commander.presence(["gw"], never))[0]?.online === true);
  clock.jumpWall(2 * 86_400_000 + 1);
  expect(await commander.presence(["gw"], never)).toMatchObject([{ online: null }]);
  expect(client.closed).toBe(false);
});

it("the status query is believed where it knows", async () => {
  const { httpPort, mqttPort, clock } = await startMq();
  await RawClient.connect(mqttPort, { clientId: "GID_demo@@@gw" });
  const { commander } = await commanderOf(`http://127.0.0.1:${httpPort}`, clock);
  expect(await commander.presence(["gw", "away"], never)).toMatchObject([
    { online: true, source: "status-query" },
    { online: false, source: "status-query" },
  ]);
});
