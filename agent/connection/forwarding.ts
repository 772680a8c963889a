import { assert } from "../core/assert.ts";
import type { Clock } from "../core/clock.ts";
import { type Batch, type Close, type IdRange, toRanges } from "../core/message.ts";
import { Wakeup } from "../core/wakeup.ts";
import type { Publisher } from "./types.ts";

interface InFlight {
  readonly epoch: string;
  readonly seq: number;
  readonly sentAtMs: number;
}

/** What forwarding needs of a link. */
export interface ForwardingLink {
  readonly close: Close | undefined;
  readonly closed: Promise<Close>;
  onClose(listener: (close: Close) => void): () => void;
  write(packets: Uint8Array): void;
}

/**
 * The forwarder's way out on one connection: batches go to the wire as they are, and the packet ids
 * that come back turn into message ids.
 *
 * It holds one small entry a message in flight and at most as many ranges, so its bound is the
 * forwarder's window. It forgets nothing at the end of a connection that had come before it: the
 * acknowledgements read until then are still handed out.
 */
export class Forwarding implements Publisher {
  readonly #link: ForwardingLink;
  readonly #clock: Clock;
  /** By packet id, in the order of sending. */
  readonly #inFlight = new Map<number, InFlight>();
  readonly #wakeup = new Wakeup();
  #acked: IdRange[] = [];
  strayAcks = 0;

  constructor(deps: { readonly link: ForwardingLink; readonly clock: Clock }) {
    this.#link = deps.link;
    this.#clock = deps.clock;
    deps.link.onClose(() => this.#wakeup.notify());
  }

  get closed(): Promise<Close> {
    return this.#link.closed;
  }

  /** When the longest waiting message was sent, monotonic milliseconds. */
  get oldestSentAtMs(): number | undefined {
    for (const entry of this.#inFlight.values()) return entry.sentAtMs;
    return undefined;
  }

  send(batch: Batch): void {
    if (this.#link.close || batch.count === 0) return;
    this.#note(batch);
    this.#link.write(batch.bytes);
  }

  async *acks(signal: AbortSignal): AsyncIterable<IdRange> {
    while (!signal.aborted) {
      if (this.#acked.length > 0) {
        const ranges = this.#acked;
        this.#acked = [];
        yield* ranges;
      } else if (this.#link.close) return;
      else await this.#wakeup.wait(signal);
    }
  }

  acknowledged(packetIds: readonly number[]): void {
    const found: InFlight[] = [];
    for (const packetId of packetIds) {
      const entry = this.#inFlight.get(packetId);
      if (entry) {
        this.#inFlight.delete(packetId);
        found.push(entry);
      } else this.strayAcks++;
    }
    if (found.length === 0) return;
    this.#acked.push(...toRanges(found));
    this.#wakeup.notify();
  }

  #note(batch: Batch): void {
    const sentAtMs = this.#clock.monotonicMs();
    let i = 0;
    for (const { epoch, from, to } of batch.ids) {
      for (let seq = from; seq <= to; seq++) {
        const at = batch.packetIdAt[i++] as number;
        const packetId = ((batch.bytes[at] as number) << 8) | (batch.bytes[at + 1] as number);
        assert(!this.#inFlight.has(packetId), "a packet id is used once at a time"); // [MQTT-2.3.1-2]
        this.#inFlight.set(packetId, { epoch, seq, sentAtMs });
      }
    }
    assert(i === batch.count, "the ids of a batch are those of its packets");
  }
}
