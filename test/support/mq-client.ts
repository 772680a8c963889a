/** A user of the MQ side over HTTP, written from surface section 6 alone. */
import { createHmac } from "node:crypto";

export interface MqMessage {
  readonly id: string;
  readonly topic: string;
  readonly tag: string;
  readonly properties: Readonly<Record<string, string>>;
  readonly bodyBase64: string;
  readonly bornTime: number;
}

export interface MqAnswer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

export class MqClient {
  readonly #port: number;
  readonly #account: { readonly accessKey: string; readonly secret: string };
  readonly #nowMs: () => number;

  constructor(
    port: number,
    account = { accessKey: "AK", secret: "SK" },
    nowMs: () => number = Date.now,
  ) {
    this.#port = port;
    this.#account = account;
    this.#nowMs = nowMs;
  }

  async produce(
    topic: string,
    body: string | Uint8Array,
    properties: Readonly<Record<string, string>> = {},
    tag?: string,
  ): Promise<string> {
    const headers = Object.fromEntries(
      Object.entries(properties).map(([name, value]) => [`X-Mq-Property-${name}`, value]),
    );
    const parameters = { topic, ...(tag === undefined ? {} : { tag }) };
    const answer = await this.ask("POST", "/mq/messages", parameters, { headers, body });
    return String(expectDone(answer)["id"]);
  }

  async consume(
    topic: string,
    group: string,
    more: { tags?: string; max?: number; wait_ms?: number } = {},
  ): Promise<MqMessage[]> {
    const given = Object.entries(more).map(([name, value]) => [name, String(value)]);
    const parameters = { topic, group, ...Object.fromEntries(given) };
    const answer = await this.ask("GET", "/mq/messages", parameters);
    return expectDone(answer)["messages"] as MqMessage[];
  }

  async ack(topic: string, group: string, ids: readonly string[]): Promise<number> {
    const answer = await this.ask("POST", "/mq/ack", { topic, group, ids: ids.join(",") });
    return Number(expectDone(answer)["acked"]);
  }

  /** Everything there is, confirmed as it comes. */
  async drain(topic: string, group: string): Promise<MqMessage[]> {
    const all: MqMessage[] = [];
    for (;;) {
      const messages = await this.consume(topic, group);
      if (messages.length === 0) return all;
      all.push(...messages);
      await this.ack(
        topic,
        group,
        messages.map(({ id }) => id),
      );
    }
  }

  /** `change` replaces parameters after signing; undefined leaves one out. */
  async ask(
    method: "GET" | "POST",
    path: string,
    parameters: Readonly<Record<string, string>>,
    options: {
      readonly headers?: Record<string, string>;
      readonly body?: string | Uint8Array;
      readonly change?: Readonly<Record<string, string | undefined>>;
      readonly signal?: AbortSignal;
    } = {},
  ): Promise<MqAnswer> {
    const { accessKey, secret } = this.#account;
    const timestamp = String(this.#nowMs());
    const signed = { accessKey, timestamp, instanceId: "mqtt-local", ...parameters };
    const text = Object.entries(signed)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) => `${name}=${value}`)
      .join("&");
    const signature = createHmac("sha1", secret).update(text, "utf8").digest("base64");
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries({ ...signed, signature, ...options.change })) {
      if (value !== undefined) query.append(name, value);
    }
    const response = await fetch(`http://127.0.0.1:${this.#port}${path}?${query.toString()}`, {
      method,
      ...(options.signal ? { signal: options.signal } : {}),
      ...(options.headers ? { headers: options.headers } : {}),
      ...(options.body === undefined ? {} : { body: Buffer.from(options.body) }),
    });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  }
}

export function bodyOf({ bodyBase64 }: MqMessage): string {
  return Buffer.from(bodyBase64, "base64").toString("utf8");
}

function expectDone({ status, body }: MqAnswer): Record<string, unknown> {
  if (status !== 200) throw new Error(`answered ${status}: ${JSON.stringify(body)}`);
  return body;
}
