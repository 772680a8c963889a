import { assert } from "../core/assert.ts";
import type { Clock } from "../core/clock.ts";
import type { Batch, Close, IdRange } from "../core/message.ts";
import { Wakeup } from "../core/wakeup.ts";
import type { Publisher } from "./types.ts";

/** A batch on the wire. */
interface Sent {
  readonly batch: Batch;
  readonly sentAtMs: number;
  /** Those that were acknowledged. */
  readonly acked: boolean[];
  left: number;
  /** All before it are acknowledged: where the next acknowledgement is looked for first. */
  next: number;
}

type Range = { -readonly [K in keyof IdRange]: IdRange[K] };

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
 * It holds the batches of which something is unacknowledged and at most as many ranges as messages,
 * so its bound is the forwarder's window. Acknowledgements mostly come in the order of sending; one
 * out of order is searched for. It forgets nothing at the end of a connection that had come before
 * it: the acknowledgements read until then are still handed out.
 */
export class Forwarding implements Publisher {
  readonly #link: ForwardingLink;
  readonly #clock: Clock;
  /** In the order of sending; the first has something unacknowledged. */
  readonly #sent: Sent[] = [];
  readonly #wakeup = new Wakeup();
  #acked: Range[] = [];
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
    return this.#sent[0]?.sentAtMs;
  }

  send(batch: Batch): void {
    if (this.#link.close || batch.count === 0) return;
    const sentAtMs = this.#clock.monotonicMs();
    const { count } = batch;
    const acked: boolean[] = [];
    while (acked.length < count) acked.push(false);
    this.#sent.push({ batch, sentAtMs, acked, left: count, next: 0 });
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
    let found = false;
    for (const packetId of packetIds) {
      if (this.#acknowledged(packetId)) found = true;
      else this.strayAcks++;
    }
    if (found) this.#wakeup.notify();
  }

  /** False for an id that is not in flight. */
  #acknowledged(packetId: number): boolean {
    for (const sent of this.#sent) {
      const index = indexOf(sent, packetId);
      if (index === undefined) continue;
      sent.acked[index] = true;
      sent.left--;
      while (sent.acked[sent.next] === true) sent.next++;
      this.#note(sent.batch, index);
      if (sent.left === 0) this.#forget(sent);
      return true;
    }
    return false;
  }

  #forget(sent: Sent): void {
    if (sent === this.#sent[0]) this.#sent.shift();
    else this.#sent.splice(this.#sent.indexOf(sent), 1);
  }

  /** Joins the message to the range before it where it is the next one. */
  #note({ ids }: Batch, index: number): void {
    let base = 0;
    for (const { epoch, from, to } of ids) {
      const seq = from + index - base;
      base += to - from + 1;
      if (index >= base) continue;
      const last = this.#acked.at(-1);
      if (last && last.epoch === epoch && last.to + 1 === seq) last.to = seq;
      else this.#acked.push({ epoch, from: seq, to: seq });
      return;
    }
    assert(false, "the ids of a batch are those of its packets");
  }
}

function indexOf({ batch, acked, next }: Sent, packetId: number): number | undefined {
  for (let index = next; index < batch.count; index++) {
    if (!acked[index] && packetIdAt(batch, index) === packetId) return index;
  }
  return undefined;
}

function packetIdAt({ bytes, packetIdAt: at }: Batch, index: number): number {
  const place = at[index] as number;
  return ((bytes[place] as number) << 8) | (bytes[place + 1] as number);
}
