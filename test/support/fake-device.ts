/**
 * A device of somebody else's make: mqtt.js, a persistent session in signature mode, and a function
 * that says what to answer.
 */
import mqtt from "mqtt";
import { onTestFinished } from "vitest";
import {
  makeConnectPassword,
  makeConnectUsername,
} from "../../agent/protocol/connect-signature.ts";

export interface SeenCommand {
  readonly id: string;
  readonly from: string;
  readonly command: string;
  readonly params?: unknown;
  /** Byte for byte, as it came. */
  readonly text: string;
}

export type Answer = object | string | Uint8Array;

export interface FakeDevice {
  readonly clientId: string;
  readonly seen: SeenCommand[];
  /** Answers in the order in which they are sent; objects are completed to a reply. */
  answer: (command: SeenCommand) => readonly Answer[];
  send(to: string, answer: Answer): Promise<void>;
  close(): Promise<void>;
}

export async function connectDevice(options: {
  readonly port: number;
  readonly device?: string;
  /** True: a standard broker, which wants a subscription and no signature. */
  readonly plain?: boolean;
  readonly answer?: FakeDevice["answer"];
}): Promise<FakeDevice> {
  const { device: name = "gw-01", plain = false } = options;
  const clientId = plain ? name : `GID_demo@@@${name}`;
  const client = mqtt.connect(`mqtt://127.0.0.1:${options.port}`, {
    clientId,
    clean: false,
    reconnectPeriod: 0,
    ...(plain ? {} : signature(clientId)),
  });
  const device: FakeDevice = {
    clientId,
    seen: [],
    answer: options.answer ?? (() => [{ status: "succeeded", result: { pong: true } }]),
    send: async (to, answer) => {
      await client.publishAsync(`GW_DOWN/p2p/${to}`, encode(answer), { qos: 1 });
    },
    close: async () => {
      if (!client.disconnected) await client.endAsync();
    },
  };
  // Before the connection: what waited may come before anything else (lmq-protocol 9, step 6).
  client.on("message", (_, payload) => void handle(device, payload.toString()));
  await new Promise<void>((resolve, reject) => {
    client.once("connect", () => resolve());
    client.once("error", reject);
  });
  onTestFinished(() => client.endAsync(true));
  if (plain) await client.subscribeAsync(`GW_DOWN/p2p/${clientId}`, { qos: 1 });
  return device;
}

function signature(clientId: string) {
  return {
    username: makeConnectUsername({ mode: "Signature", accessKey: "AK", instanceId: "mqtt-local" }),
    password: makeConnectPassword("SK", clientId),
  };
}

async function handle(device: FakeDevice, text: string): Promise<void> {
  const { id, from, command, params } = JSON.parse(text);
  const seen: SeenCommand = { id, from, command, params, text };
  device.seen.push(seen);
  for (const answer of device.answer(seen)) {
    const isObject = !(typeof answer === "string" || answer instanceof Uint8Array);
    const reply = isObject ? complete(device.clientId, id, answer) : answer;
    await device.send(from, reply);
  }
}

function complete(device: string, id: string, answer: object): object {
  const status: unknown = "status" in answer ? answer.status : "succeeded";
  const final = !["accepted", "running", "busy"].includes(String(status));
  return { v: 1, id, device, at: 1, status, final, ...answer };
}

function encode(answer: Answer): Buffer {
  if (typeof answer === "string" || answer instanceof Uint8Array) return Buffer.from(answer);
  return Buffer.from(JSON.stringify(answer));
}
