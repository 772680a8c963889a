/**
 * A connection without a network: a `Publisher` whose other end is a broker in memory that the
 * test drives. It takes packets apart as a broker would and acknowledges what it is told to.
 */

import { BoundedQueue } from "../../agent/core/bounded-queue.ts";
import type { Batch, Close, IdRange } from "../../agent/core/message.ts";
import { decodePublish } from "../../agent/core/publish-packet.ts";
import type { Publisher } from "../../agent/outbox/outbox.ts";

export interface Received {
  readonly id: string;
  readonly packetId: number;
  readonly dup: boolean;
  readonly topic: string;
  readonly text: string;
}

export class SimLink implements Publisher {
  readonly closed: Promise<Close>;
  /** Received and not yet acknowledged, in order of arrival. */
  readonly unacked: Received[] = [];
  readonly #onReceived: (message: Received) => void;
  readonly #acks = new BoundedQueue<IdRange>(100_000);
  #end!: (close: Close) => void;

  constructor(onReceived: (message: Received) => void) {
    this.#onReceived = onReceived;
    this.closed = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  send(batch: Batch): void {
    let i = 0;
    for (const { epoch, from, to } of batch.ids) {
      for (let seq = from; seq <= to; seq++, i++) {
        const packet = batch.bytes.subarray(batch.offsets[i], batch.offsets[i + 1]);
        const at = batch.packetIdAt[i] as number;
        const packetId = ((batch.bytes[at] as number) << 8) | (batch.bytes[at + 1] as number);
        const { topic, payload } = decodePublish(packet);
        const text = new TextDecoder().decode(payload);
        const dup = ((packet[0] as number) & 8) !== 0;
        const message = { id: `${epoch}-${seq}`, packetId, dup, topic, text };
        this.unacked.push(message);
        this.#onReceived(message);
      }
    }
  }

  async *acks(signal: AbortSignal): AsyncIterable<IdRange> {
    for (;;) {
      const range = await this.#acks.shift(signal);
      if (!range) return;
      yield range;
    }
  }

  /** Acknowledges the message at this place of `unacked` and gives it. */
  ack(index = 0): Received | undefined {
    const [message] = this.unacked.splice(index, 1);
    if (message) this.acknowledge(message);
    return message;
  }

  /** Acknowledges it, a second time if need be. */
  acknowledge(message: Received): void {
    const at = message.id.lastIndexOf("-");
    const seq = Number(message.id.slice(at + 1));
    this.#acks.push({ epoch: message.id.slice(0, at), from: seq, to: seq });
  }

  close(reason: Close["reason"] = "network", notice?: number): void {
    this.#acks.close();
    this.#end({ reason, ...(notice !== undefined && { notice }) });
  }
}
