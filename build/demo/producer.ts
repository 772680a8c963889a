/**
 * A program on the device, as a stranger would write it: it hands messages to the agent over the
 * local API, one after the other, each with an id of its own. What was not answered with 200 it
 * tries again with the same id, so that a retry never makes a second message.
 */
import { Agent, type IncomingMessage, request } from "node:http";
import { DemoFailure, type Life } from "./life.ts";
import type { Tally } from "./tally.ts";

export interface ProducerOptions {
  readonly socketPath: string;
  /** Below the parent topic. */
  readonly topic: string;
  /** The payload of the message with this number. */
  readonly payload: (number: number) => string;
}

/** More than the demo can pile up while the agent is dead; beyond, none are made. */
const MAX_WAITING = 1_000;
const RETRY_MS = 100;
const ANSWER_LIMIT_MS = 10_000;

interface Waiting {
  readonly number: number;
  readonly payload: string;
}

export class Producer {
  everyMs: number;
  readonly #options: ProducerOptions;
  readonly #life: Life;
  readonly #connections = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #waiting: Waiting[] = [];
  #tally: Tally | undefined;
  #made = 0;
  #isMaking = true;
  #loops: Promise<unknown> = Promise.resolve();

  constructor(options: ProducerOptions, everyMs: number, life: Life, tally: Tally) {
    this.#options = options;
    this.everyMs = everyMs;
    this.#life = life;
    this.#tally = tally;
  }

  /** Made and not accepted yet. */
  get waiting(): number {
    return this.#waiting.length;
  }

  start(): void {
    this.#isMaking = true;
    this.#loops = Promise.all([this.#make(), this.#send()]);
    this.#loops.catch((error: unknown) => {
      this.#life.end(error instanceof Error ? error : new Error(String(error)));
    });
  }

  /** Makes no more, and resolves when all that were made have been accepted. */
  async finish(): Promise<void> {
    this.#isMaking = false;
    await this.#loops;
  }

  /** From here on nobody counts: the tally remembers each message, and this may run for days. */
  stopCounting(): void {
    this.#tally = undefined;
  }

  close(): void {
    this.#connections.destroy();
  }

  async #make(): Promise<void> {
    while (this.#isMaking) {
      if (this.#waiting.length < MAX_WAITING) {
        const number = ++this.#made;
        this.#waiting.push({ number, payload: this.#options.payload(number) });
      }
      await this.#life.sleep(this.everyMs);
    }
  }

  async #send(): Promise<void> {
    while (this.#isMaking || this.#waiting.length > 0) {
      const [message] = this.#waiting;
      if (!message) await this.#life.sleep(Math.min(this.everyMs, RETRY_MS));
      else {
        const tries = await this.#sendUntilAccepted(message);
        this.#waiting.shift();
        this.#tally?.accept(message.number, { tries });
      }
    }
  }

  async #sendUntilAccepted(message: Waiting): Promise<number> {
    for (let tries = 1; ; tries++) {
      if (await this.#put(message)) return tries;
      await this.#life.sleep(RETRY_MS);
    }
  }

  /** True for 200. Throws for an answer that no retry can change. */
  async #put({ number, payload }: Waiting): Promise<boolean> {
    const status = await this.#ask(number, payload).catch(() => undefined);
    this.#life.signal.throwIfAborted();
    if (status === undefined || status === 429 || status >= 500) return false;
    if (status === 200) return true;
    throw new DemoFailure(`the agent answered ${status} to message ${number}`);
  }

  #ask(number: number, payload: string): Promise<number> {
    const { socketPath, topic } = this.#options;
    const query = new URLSearchParams({ topic, id: `demo-${number}` });
    return new Promise((resolve, reject) => {
      const sent = request({
        socketPath,
        agent: this.#connections,
        method: "POST",
        path: `/v1/messages?${query}`,
        headers: { "content-length": Buffer.byteLength(payload) },
        signal: AbortSignal.any([this.#life.signal, AbortSignal.timeout(ANSWER_LIMIT_MS)]),
      });
      sent.once("error", reject);
      sent.once("response", (response: IncomingMessage) => {
        // Counted when the answer is whole, as a careful producer does.
        response.once("end", () => resolve(response.statusCode ?? 0));
        response.once("error", reject);
        response.resume();
      });
      sent.end(payload);
    });
  }
}
