/**
 * The witness: a client of its own at the service, past the link that is cut, with a persistent
 * session and QoS 1, subscribed before the first message is made. It counts what arrives.
 */
import { connectAsync, type IClientOptions, type MqttClient } from "mqtt";
import {
  makeConnectPassword,
  makeConnectUsername,
} from "../../agent/protocol/connect-signature.ts";

export interface AuditorOptions {
  readonly port: number;
  readonly clientId: string;
  readonly accessKey: string;
  readonly secret: string;
  readonly instanceId: string;
  /** The parent topic that is watched. */
  readonly up: string;
  readonly arrived: (topic: string, payload: Buffer) => void;
}

const QOS = 1;
const LIMIT_MS = 10_000;

export class Auditor {
  readonly #client: MqttClient;
  readonly #barrierTopic: string;
  readonly #barriers = new Map<string, () => void>();

  private constructor(client: MqttClient, { up, arrived }: AuditorOptions) {
    this.#client = client;
    this.#barrierTopic = `${up}/demo/auditor`;
    client.on("error", () => undefined); // It connects again by itself.
    client.on("message", (topic, payload) => {
      if (topic === this.#barrierTopic) this.#barriers.get(payload.toString())?.();
      else arrived(topic, payload);
    });
  }

  static async connect(options: AuditorOptions): Promise<Auditor> {
    const { clientId, accessKey, secret, instanceId, port, up } = options;
    const connection: IClientOptions = {
      clientId,
      clean: false,
      protocolVersion: 4,
      username: makeConnectUsername({ mode: "Signature", accessKey, instanceId }),
      password: makeConnectPassword(secret, clientId),
      keepalive: 30,
      reconnectPeriod: 500,
      connectTimeout: LIMIT_MS,
    };
    const client = await connectAsync(`mqtt://127.0.0.1:${port}`, connection, false);
    const auditor = new Auditor(client, options);
    await client.subscribeAsync(`${up}/#`, { qos: QOS });
    return auditor;
  }

  /** Resolves when everything has arrived that the service had taken before: it keeps the order. */
  async barrier(name: string): Promise<void> {
    const arrived = new Promise<void>((resolve, reject) => {
      this.#barriers.set(name, resolve);
      AbortSignal.timeout(LIMIT_MS).addEventListener("abort", () => {
        reject(new Error("The service does not deliver the auditor's own message."));
      });
    });
    await this.#client.publishAsync(this.#barrierTopic, name, { qos: QOS });
    await arrived;
  }

  async close(): Promise<void> {
    await this.#client.endAsync(true);
  }
}
