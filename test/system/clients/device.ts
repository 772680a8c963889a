/**
 * A device as a user of the vendor's service writes it, with MQTT.js. Written from the protocol's
 * paper alone: nothing of this project is imported. `device.ts VERB [ARGS]`; where the service is
 * and who this is comes from the environment.
 */
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { argv, env, stdout } from "node:process";
import { connect, type IClientOptions, type MqttClient } from "mqtt";

const HOST = "127.0.0.1";
const PARENT = "GW_DOWN";
const accessKey = env["ACCESS_KEY"] ?? "";
const secret = env["SECRET"] ?? "";
const instanceId = env["INSTANCE"] ?? "";
const clientId = env["CLIENT_ID"] ?? "";
const mine = `${PARENT}/p2p/${clientId}`;
const tcp = `mqtt://${HOST}:${env["MQTT_PORT"]}`;

const say = (...words: readonly unknown[]): void => void stdout.write(`${words.join(" ")}\n`);
const sign = (text: string): string => createHmac("sha1", secret).update(text).digest("base64");

interface Message {
  readonly topic: string;
  readonly qos: number;
  readonly text: string;
}

class Device {
  readonly client: MqttClient;
  readonly #messages: Message[] = [];
  #wake: (() => void) | undefined;

  constructor(client: MqttClient) {
    this.client = client;
    client.on("message", (topic, payload, { qos }) => {
      this.#messages.push({ topic, qos, text: payload.toString() });
      this.#wake?.();
    });
  }

  /** Undefined when it is refused, which is told. */
  static async connect(url: string, options: IClientOptions = {}): Promise<Device | undefined> {
    const client = connect(url, {
      clientId,
      clean: false,
      keepalive: 90,
      reconnectPeriod: 0,
      username: `Signature|${accessKey}|${instanceId}`,
      password: sign(clientId),
      ...options,
    });
    // Before anything else: offline messages may come in one piece with the CONNACK.
    const device = new Device(client);
    const code = await new Promise<unknown>((resolve) => {
      client.once("connect", () => resolve(0));
      client.once("error", (error) => resolve((error as { readonly code?: number }).code));
    });
    say("connack", code);
    return code === 0 ? device : undefined;
  }

  async next(): Promise<Message> {
    for (;;) {
      const message = this.#messages.shift();
      if (message) return message;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async publish(topic: string, text: string): Promise<void> {
    await this.client.publishAsync(topic, text, { qos: 1 });
  }

  async show(): Promise<void> {
    const { topic, qos, text } = await this.next();
    say("message", topic, qos, text);
  }
}

async function hello(url: string): Promise<void> {
  const caFile = env["CA_FILE"];
  const secure = /^(mqtts|wss):/.test(url) && caFile !== undefined;
  const device = await Device.connect(url, secure ? { ca: readFileSync(caFile) } : {});
  if (!device) return;
  await device.publish(mine, "hello myself");
  await device.show();
  await device.client.endAsync();
}

async function send(target: string, text: string): Promise<void> {
  const device = await Device.connect(tcp);
  await device?.publish(`${PARENT}/p2p/${target}`, text);
  say("puback");
  await device?.client.endAsync();
}

async function receive(count: number): Promise<void> {
  const device = await Device.connect(tcp);
  for (let i = 0; i < count; i++) await device?.show();
  await device?.client.endAsync();
}

type Answer = Readonly<Record<string, unknown>>;
const httpUrl = (path: string): string => `http://${HOST}:${env["HTTP_PORT"]}${path}`;
const textToSign = (signed: Readonly<Record<string, string>>): string =>
  Object.keys(signed)
    .sort()
    .map((key) => `${key}=${signed[key]}`)
    .join("&");

async function status(resource: string): Promise<void> {
  const signed = { accessKey, instanceId, resource, timestamp: String(Date.now()) };
  const query = new URLSearchParams({ ...signed, signature: sign(textToSign(signed)) });
  const answer = await fetch(httpUrl(`/route/clientId/get?${query}`));
  const { code, online } = (await answer.json()) as Answer;
  say("status", answer.status, code, online);
}

/** As multipart/form-data, which is how the vendor's program for Node sends it. */
async function askToken(
  verb: string,
  signed: Readonly<Record<string, string>>,
  others: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const form = new FormData();
  const fields = { ...signed, ...others, accessKey, signature: sign(textToSign(signed)) };
  for (const [key, value] of Object.entries(fields)) form.set(key, value);
  const answer = await fetch(httpUrl(`/token/${verb}`), { method: "POST", body: form });
  const body = (await answer.json()) as Answer;
  say(verb, body["code"]);
  return body;
}

async function apply(): Promise<string> {
  const expireTime = String(Date.now() + 3_600_000);
  const signed = {
    ...{ actions: "R,W", resources: `${PARENT}/#`, expireTime },
    ...{ serviceName: "mq", instanceId },
  };
  return String((await askToken("apply", signed, { proxyType: "MQTT" }))["tokenData"]);
}

async function token(): Promise<void> {
  const username = `Token|${accessKey}|${instanceId}`;
  const device = await Device.connect(tcp, { username, password: `RW|${await apply()}` });
  if (!device) return;
  const fresh = await apply();
  const closed = new Promise<void>((resolve) => device.client.once("close", () => resolve()));
  await device.publish("$SYS/uploadToken", JSON.stringify({ token: fresh, type: "RW" }));
  say("uploaded");
  await device.publish(mine, "with a token");
  await device.show();
  await askToken("query", { token: fresh });
  await askToken("revoke", { token: fresh });
  const notice = await device.next();
  say("notice", notice.topic, JSON.parse(notice.text).code);
  await closed;
  say("closed");
  await askToken("query", { token: fresh });
  await device.client.endAsync(true);
}

const [verb = "", first = "", second = ""] = argv.slice(2);
const verbs: Readonly<Record<string, () => Promise<void>>> = {
  self: () => hello(tcp),
  tls: () => hello(`mqtts://${HOST}:${env["MQTTS_PORT"]}`),
  wss: () => hello(`wss://${HOST}:${env["WSS_PORT"]}/mqtt`),
  websocket: () => hello(`ws://${HOST}:${env["WS_PORT"]}/mqtt`),
  send: () => send(first, second),
  receive: () => receive(Number(first)),
  status: () => status(first),
  token,
};
await verbs[verb]?.();
