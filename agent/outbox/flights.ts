import { assert } from "../core/assert.ts";
import { limits } from "../core/limits.ts";
import type { Batch, IdRange } from "../core/message.ts";
import { publishTopic, writePacketId } from "../core/publish-packet.ts";

/** A message that was sent and is not acknowledged; its packet is a part of the batch it came in. */
export interface Flight {
  readonly epoch: string;
  readonly seq: number;
  readonly packetId: number;
  readonly batch: Batch;
  readonly index: number;
}

/** The packet with its id, ready to be sent again. */
export function packetOf({ batch, index }: Flight): Uint8Array {
  return batch.bytes.subarray(batch.offsets[index], batch.offsets[index + 1]);
}

export function topicOf(flight: Flight): string {
  return publishTopic(packetOf(flight));
}

/** A batch of which something is in flight. */
interface Sent {
  readonly batch: Batch;
  readonly packetIds: readonly number[];
  /** Those that are not in flight any more. */
  readonly landed: boolean[];
  left: number;
  /** Made when somebody asks for one, and then kept: who holds one compares it. */
  readonly flights: (Flight | undefined)[];
}

/**
 * What is in flight, in the order of sending, and which packet ids that holds. It keeps batches,
 * because a message of its own for each would be most of what the drain costs; a `Flight` is made
 * only where one message is looked at.
 */
export class Flights {
  #sent: Sent[] = [];
  #size = 0;
  /** 1 for the packet ids that are in flight. */
  readonly #used = new Uint8Array(limits.forwarderPacketIds + 1);
  #lastPacketId = 0;

  get size(): number {
    return this.#size;
  }

  /** In the order of sending. */
  all(): Flight[] {
    return this.#sent.flatMap((sent) => flightsOf(sent));
  }

  /** Gives each packet of the batch an id and writes it there. */
  add(batch: Batch): void {
    const { count } = batch;
    assert(
      batch.ids.reduce((sum, { from, to }) => sum + to - from + 1, 0) === count,
      "a batch names each of its packets",
    );
    const packetIds: number[] = [];
    const landed: boolean[] = [];
    for (let index = 0; index < count; index++) {
      const packetId = this.#nextPacketId();
      writePacketId(batch.bytes, batch.packetIdAt[index] as number, packetId);
      packetIds.push(packetId);
      landed.push(false);
    }
    this.#sent.push({ batch, packetIds, landed, left: count, flights: [] });
  }

  /** Those of a batch that are in flight. */
  of(batch: Batch): Flight[] {
    return this.#sent.filter((sent) => sent.batch === batch).flatMap((sent) => flightsOf(sent));
  }

  has({ batch, index }: Flight): boolean {
    const sent = this.#sent.find((each) => each.batch === batch);
    return sent?.landed[index] === false;
  }

  /**
   * These are not in flight any more; gives how many were, and the last of them. `each` is told of
   * every one, where somebody follows single messages.
   */
  land(
    range: IdRange,
    each?: (flight: Flight) => void,
  ): { readonly count: number; readonly last: Flight | undefined } {
    const wanted = range.to - range.from + 1;
    let count = 0;
    let last: Flight | undefined;
    for (const sent of this.#sent) {
      if (count === wanted) break;
      let base = 0;
      for (const { epoch, from, to } of sent.batch.ids) {
        const end = epoch === range.epoch ? Math.min(to, range.to) : -1;
        let latest = -1;
        for (let seq = Math.max(from, range.from); seq <= end; seq++) {
          const index = base + seq - from;
          if (sent.landed[index] !== false) continue;
          this.#land(sent, index);
          latest = index;
          count++;
          if (each) each(flightAt(sent, index));
        }
        if (latest >= 0) last = flightAt(sent, latest);
        base += to - from + 1;
      }
    }
    if (count > 0) this.#dropLanded();
    return { count, last };
  }

  #land(sent: Sent, index: number): void {
    sent.landed[index] = true;
    sent.left--;
    this.#size--;
    this.#used[sent.packetIds[index] as number] = 0;
  }

  /** A batch holds its bytes: one that is through goes, also behind one that is not. */
  #dropLanded(): void {
    while (this.#sent[0]?.left === 0) this.#sent.shift();
    if (this.#sent.some(({ left }) => left === 0)) {
      this.#sent = this.#sent.filter(({ left }) => left > 0);
    }
  }

  /** Ids go round; the window is far smaller than the circle, but stragglers may still hold some. */
  #nextPacketId(): number {
    assert(this.#size < limits.forwarderPacketIds, "there is a free packet id");
    do {
      this.#lastPacketId = (this.#lastPacketId % limits.forwarderPacketIds) + 1;
    } while (this.#used[this.#lastPacketId] !== 0); // [MQTT-2.3.1-2]
    this.#used[this.#lastPacketId] = 1;
    this.#size++;
    return this.#lastPacketId;
  }
}

function flightsOf(sent: Sent): Flight[] {
  const flights: Flight[] = [];
  sent.landed.forEach((landed, index) => {
    if (!landed) flights.push(flightAt(sent, index));
  });
  return flights;
}

function flightAt(sent: Sent, index: number): Flight {
  const known = sent.flights[index];
  if (known) return known;
  const { batch, packetIds } = sent;
  const { epoch, seq } = idAt(batch, index);
  const flight: Flight = { epoch, seq, packetId: packetIds[index] as number, batch, index };
  sent.flights[index] = flight;
  return flight;
}

/** The id of packet `index` of a batch. */
function idAt(batch: Batch, index: number): { epoch: string; seq: number } {
  let base = 0;
  for (const { epoch, from, to } of batch.ids) {
    if (index < base + to - from + 1) return { epoch, seq: from + index - base };
    base += to - from + 1;
  }
  throw new RangeError("a batch names each of its packets");
}
