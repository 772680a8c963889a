import { assert } from "../core/assert.ts";
import { limits } from "../core/limits.ts";
import type { Batch } from "../core/message.ts";
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

/** What is in flight, in the order of sending, and which packet ids that holds. */
export class Flights {
  readonly #byPacketId = new Map<number, Flight>();
  /** By epoch and number: an acknowledgement names messages. */
  readonly #byEpoch = new Map<string, Map<number, Flight>>();
  #lastPacketId = 0;

  get size(): number {
    return this.#byPacketId.size;
  }

  /** In the order of sending. */
  all(): Flight[] {
    return [...this.#byPacketId.values()];
  }

  /** Gives each packet of the batch an id and writes it there. */
  add(batch: Batch): void {
    let index = 0;
    for (const { epoch, from, to } of batch.ids) {
      const ofEpoch = this.#ofEpoch(epoch);
      for (let seq = from; seq <= to; seq++, index++) {
        const packetId = this.#nextPacketId();
        writePacketId(batch.bytes, batch.packetIdAt[index] as number, packetId);
        const flight = { epoch, seq, packetId, batch, index };
        ofEpoch.set(seq, flight);
        this.#byPacketId.set(packetId, flight);
      }
    }
    assert(index === batch.count, "a batch names each of its packets");
  }

  /** Those of a batch that are in flight. */
  of(batch: Batch): Flight[] {
    return this.all().filter((flight) => flight.batch === batch);
  }

  has({ epoch, seq }: Flight): boolean {
    return this.#byEpoch.get(epoch)?.has(seq) ?? false;
  }

  /** It is not in flight any more; gives it if it was. */
  land(epoch: string, seq: number): Flight | undefined {
    const ofEpoch = this.#byEpoch.get(epoch);
    const flight = ofEpoch?.get(seq);
    if (!ofEpoch || !flight) return undefined;
    this.#byPacketId.delete(flight.packetId);
    ofEpoch.delete(seq);
    return flight;
  }

  #ofEpoch(epoch: string): Map<number, Flight> {
    const known = this.#byEpoch.get(epoch);
    if (known) return known;
    // Epochs of earlier processes come one after the other, and are over when they are drained.
    for (const [old, flights] of this.#byEpoch) if (flights.size === 0) this.#byEpoch.delete(old);
    const started = new Map<number, Flight>();
    this.#byEpoch.set(epoch, started);
    return started;
  }

  /** Ids go round; the window is far smaller than the circle, but stragglers may still hold some. */
  #nextPacketId(): number {
    assert(this.#byPacketId.size < limits.forwarderPacketIds, "there is a free packet id");
    do {
      this.#lastPacketId = (this.#lastPacketId % limits.forwarderPacketIds) + 1;
    } while (this.#byPacketId.has(this.#lastPacketId)); // [MQTT-2.3.1-2]
    return this.#lastPacketId;
  }
}
