/**
 * The local service on a disk whose power will be cut, with its clients in the same process: what
 * they were told is written down in the order in which it happened.
 *
 * `work STATE RUN MARKS SEED FROM` writes into MARKS: `published N TO`, `accepted N` at its PUBACK,
 * `received N BY ack|keep` before anything is acknowledged, `settled N BY` once the service has
 * handled the PUBACK, `subscribed ID` at its SUBACK. `check STATE RUN SAID` writes `received N BY` for
 * each message that comes, `present ID` for each session that is known, `served ID` for each
 * subscription that is, and `state {...}`.
 */
import { openSync, writeSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { silentLog } from "../../../agent/core/log.ts";
import { SystemClock } from "../../../agent/core/system-clock.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import {
  makeConnectPassword,
  makeConnectUsername,
} from "../../../agent/protocol/connect-signature.ts";
import { LocalCloud } from "../../../cloud/cloud.ts";
import { Device, type DeviceHandlers } from "../fleet/device.ts";
import { SeededRandom } from "../seeded-random.ts";
import { LATE_COMERS, nameOf, RECEIVERS, TELEMETRY } from "./cloud-subject.ts";

const [mode, dir, , ...rest] = process.argv.slice(2) as [string, string, string, ...string[]];
const never = new AbortController().signal;
const marks = openSync(rest[0] as string, "w");
const say = (line: string): void => {
  writeSync(marks, `${line}\n`);
};
const ROUNDS = 14;
const username = makeConnectUsername({
  ...{ mode: "Signature", accessKey: "AK", instanceId: "mqtt-local" },
});

const cloud = new LocalCloud(
  {
    service: {
      listen: { host: "127.0.0.1", mqtt: { port: 0 } },
      directory: {
        accounts: new Map([["AK", "SK"]]),
        instanceId: "mqtt-local",
        groups: new Set(["GID_demo"]),
        topics: new Map(["GW_UP", "GW_DOWN"].map((topic) => [topic, { ordered: false }])),
      },
      timings: { ackTimeoutMs: 100, offlineIntervalMs: 5, retryLimit: 1_000 },
    },
    dataDir: dir,
  },
  { clock: new SystemClock(), random: new SystemRandom(), log: silentLog },
);
function connect(clientId: string, handlers: Partial<DeviceHandlers>): Promise<Device> {
  const port = cloud.ready?.mqtt?.port ?? 0;
  const password = makeConnectPassword("SK", clientId);
  const nothing = { message: () => true, acked: () => undefined, lost: () => undefined };
  return Device.connect(
    { port, clientId, clean: false, username, password },
    { ...nothing, ...handlers },
  );
}

async function work(dice: SeededRandom, from: number): Promise<void> {
  const receivers = RECEIVERS.map((clientId) => new Receiver(clientId, dice));
  for (const receiver of receivers) await receiver.connect(true);
  say("ready");
  let number = from;
  let awaited = 0;
  const sender = await connect(nameOf("sender"), {
    acked: (packetId) => {
      say(`accepted ${from + packetId}`);
      awaited--;
    },
  });
  const publish = (): void => {
    const toAll = dice.chance(0.3);
    const to = toAll ? "all" : (RECEIVERS[dice.int(RECEIVERS.length)] as string);
    number++;
    say(`published ${number} ${to}`);
    awaited++;
    const text = String(number).padStart(dice.chance(0.02) ? 10_000 : 200, " ");
    const topic = toAll ? TELEMETRY : `GW_DOWN/p2p/${to}`;
    sender.publish(topic, Buffer.from(text), number - from);
  };
  for (let round = 0; round < ROUNDS; round++) {
    for (const receiver of receivers) await receiver.change();
    for (let bursts = dice.int(6); bursts >= 0; bursts--) {
      for (let n = dice.int(40); n >= 0; n--) publish();
      await pause(dice.int(4));
    }
    while (awaited > 0) await pause(1);
    for (const receiver of receivers) await receiver.tell();
    if (dice.chance(0.6)) await subscribeOne(dice);
  }
}

/** One client more with a persistent session and a subscription. */
async function subscribeOne(dice: SeededRandom): Promise<void> {
  const clientId = LATE_COMERS[dice.int(LATE_COMERS.length)] as string;
  const device = await connect(clientId, {});
  await device.subscribe("GW_UP/late");
  say(`subscribed ${clientId}`);
  device.end();
}

/** Comes and goes, acknowledges most of what it gets, and says what it did. */
class Receiver {
  readonly #clientId: string;
  readonly #dice: SeededRandom;
  #device: Device | undefined;
  #acked: number[] = [];

  constructor(clientId: string, dice: SeededRandom) {
    this.#clientId = clientId;
    this.#dice = dice;
  }

  async connect(subscribe: boolean): Promise<void> {
    this.#device = await connect(this.#clientId, {
      message: (payload) => {
        const number = Number(payload);
        const ack = this.#dice.chance(0.9);
        say(`received ${number} ${this.#clientId} ${ack ? "ack" : "keep"}`);
        if (ack) this.#acked.push(number);
        return ack;
      },
    });
    if (subscribe) await this.#device.subscribe(TELEMETRY);
  }

  async change(): Promise<void> {
    if (this.#dice.chance(0.6)) return;
    if (!this.#device) return await this.connect(false);
    this.#device.end();
    this.#device = undefined;
    // Whether the service has seen them before the end of the connection is not known.
    this.#acked = [];
  }

  async tell(): Promise<void> {
    const acked = this.#acked;
    this.#acked = [];
    if (!this.#device) return;
    await this.#device.ping();
    for (const number of acked) say(`settled ${number} ${this.#clientId}`);
  }
}

async function check(): Promise<void> {
  const found = cloud.stats.waiting;
  const served = new Set<string>();
  const devices: Device[] = [];
  for (const clientId of [...RECEIVERS, ...LATE_COMERS]) {
    const device = await connect(clientId, {
      message: (payload) => {
        if (payload.toString() === "late") served.add(clientId);
        else say(`received ${Number(payload)} ${clientId}`);
        return true;
      },
    });
    if (device.sessionPresent) say(`present ${clientId}`);
    devices.push(device);
  }
  // A message that cannot be delivered would keep it here: the rig's caller has a limit of time.
  while (cloud.stats.waiting > 0) await pause(2);
  let writable = false;
  const sender = await connect(nameOf("checker"), {
    acked: () => {
      writable = true;
    },
  });
  sender.publish("GW_UP/late", Buffer.from("late"), 1);
  while (!writable) await pause(1);
  for (const device of devices) await device.ping();
  for (const clientId of served) say(`served ${clientId}`);
  say(`state ${JSON.stringify({ found, writable, expired: cloud.stats.expired })}`);
  for (const device of devices) device.end();
}

await cloud.start(never);
if (mode === "work") await work(new SeededRandom(Number(rest[1])), Number(rest[2]));
else await check();
await cloud.stop(AbortSignal.abort());
