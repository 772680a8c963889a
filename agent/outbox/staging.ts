import { assert } from "../core/assert.ts";
import { messageId, type OutgoingMessage } from "../core/message.ts";
import type { Entry } from "./entry.ts";
import type { Eviction } from "./eviction.ts";
import type { Lane } from "./lane.ts";
import type { Reservation, Staged } from "./port.ts";
import type { Records } from "./records.ts";

export interface StagingDeps {
  readonly epoch: string;
  readonly records: Pick<Records, "write">;
  readonly eviction: Pick<Eviction, "makeRoomIn" | "expireForRoom">;
  readonly newEntry: (lane: Lane, message: OutgoingMessage, packet: Uint8Array) => Entry;
  /** The caller's commit succeeded. */
  readonly onCommitted: (entry: Entry) => void;
}

/** Messages that become safe in a commit of somebody else, and the room that is held for them. */
export class Staging {
  readonly #deps: StagingDeps;
  /** Those neither used nor released. */
  readonly #reservations = new Set<Reservation>();

  constructor(deps: StagingDeps) {
    this.#deps = deps;
  }

  reserve(lane: Lane, bytes: number): Reservation | undefined {
    const hasRoom = (): boolean => lane.hasRoomFor(1, bytes);
    if (!hasRoom() && !this.#deps.eviction.expireForRoom(lane, hasRoom)) return undefined;
    lane.reservedMessages++;
    lane.reservedBytes += bytes;
    const reservation: Reservation = {
      lane: lane.name,
      bytes,
      release: () => {
        if (!this.#reservations.delete(reservation)) return;
        lane.reservedMessages--;
        lane.reservedBytes -= bytes;
      },
    };
    this.#reservations.add(reservation);
    return reservation;
  }

  stage(
    lane: Lane,
    message: OutgoingMessage,
    packet: Uint8Array,
    reservation: Reservation | undefined,
  ): Staged {
    const reserved =
      reservation !== undefined &&
      this.#reservations.has(reservation) &&
      reservation.lane === lane.name &&
      reservation.bytes >= packet.length;
    if (!reserved) this.#deps.eviction.makeRoomIn(lane, packet.length, message.key);
    reservation?.release();
    const entry = this.#deps.newEntry(lane, message, packet);
    entry.place = "writing";
    lane.messages++;
    lane.bytes += packet.length;
    const write = this.#deps.records.write([entry], this.#deps.epoch);
    let open = true;
    const once = (action: () => void) => () => {
      assert(open, "a staged message is committed or abandoned once");
      open = false;
      action();
    };
    return {
      id: messageId(entry.epoch, entry.seq),
      writes: [write],
      committed: once(() => this.#deps.onCommitted(entry)),
      abandoned: once(() => {
        entry.place = "gone";
        lane.messages--;
        lane.bytes -= packet.length;
      }),
    };
  }
}
