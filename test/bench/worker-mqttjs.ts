/**
 * mqtt.js by itself as a process, with its store in memory or with mqtt-level-store:
 * `worker-mqttjs.ts DIR PORT memory|level`, asked over IPC. Offline a message counts as accepted
 * when the store has taken it; neither of the two syncs.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import mqtt, { type IClientOptions, type IStore, Store } from "mqtt";
import { acceptAll, acceptSteadily } from "./drive.ts";
import { answerQuestions } from "./ipc.ts";

const [dir = "", port = "0", kind = "memory"] = process.argv.slice(2);
const TOPIC = "GW_UP/t";

interface Stores {
  readonly incoming: IStore;
  readonly outgoing: IStore;
}

function openStores(): Stores {
  if (kind === "memory") return { incoming: new Store(), outgoing: new Store() };
  const levelStore = createRequire(import.meta.url)("mqtt-level-store") as (path: string) => Stores;
  return levelStore(join(dir, "level"));
}

const stores = openStores();
/** Told when the store has a packet; in the order of the puts. */
const taken: (() => void)[] = [];
const outgoing = new Proxy(stores.outgoing, {
  get: (store, name) => {
    if (name !== "put") {
      const member = Reflect.get(store, name);
      return typeof member === "function" ? member.bind(store) : member;
    }
    return (packet: unknown, done: (error?: Error) => void) => {
      const told = taken.shift();
      Reflect.apply(store.put, store, [
        packet,
        (error?: Error) => {
          done(error);
          told?.();
        },
      ]);
    };
  },
});

const options: IClientOptions = {
  clientId: "bench",
  clean: false,
  keepalive: 90,
  manualConnect: true,
  reconnectPeriod: 200,
  outgoingStore: outgoing,
  incomingStore: stores.incoming,
};
const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, options);
client.on("error", () => undefined);

/** Resolves when the store has it; its PUBACK is not waited for. */
function acceptOffline(payload: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    taken.push(resolve);
    client.publish(TOPIC, Buffer.from(payload.buffer, payload.byteOffset, payload.length), {
      qos: 1,
    });
  });
}

const acceptOnline = (payload: Uint8Array): Promise<unknown> =>
  client.publishAsync(TOPIC, Buffer.from(payload.buffer, payload.byteOffset, payload.length), {
    qos: 1,
  });

answerQuestions({
  accept: (load: Parameters<typeof acceptAll>[0]) => acceptAll(load, acceptOffline),
  steadily: (load: Parameters<typeof acceptSteadily>[0]) => acceptSteadily(load, acceptOnline),
  connect: async () => {
    client.connect();
    while (!client.connected) await pause(5);
  },
});
