import { describeError, HoldfastError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { messageId } from "../core/message.ts";
import type { Committer } from "./committer.ts";
import { type Entry, isOver, provenAgeMs } from "./entry.ts";
import type { Lane } from "./lane.ts";
import type { Loss, LossReason } from "./losses.ts";
import type { Quarantine } from "./quarantine.ts";
import type { RecordTime } from "./record.ts";
import type { Dropped, Records } from "./records.ts";
import { isRunOver } from "./run.ts";

/** Looks at the disk for messages that lived too long, each time and for each lane. */
const SWEEP_READS = 8;

export interface EvictionDeps {
  readonly records: Pick<Records, "dropUnheld">;
  readonly committer: Pick<Committer, "noteLetGo">;
  readonly quarantine: Pick<Quarantine, "owns" | "retract">;
  readonly log: Logger;
  readonly now: () => RecordTime;
  readonly isRunning: () => boolean;
  /** Reads the next records of the lane. */
  readonly load: (lane: Lane) => Promise<void>;
  readonly countLoss: (loss: Loss) => void;
  /** Takes a dropped message out of all books. */
  readonly letGo: (entry: Entry, why: LossReason) => void;
}

/** What a policy lets go: the oldest where a lane or the disk is full, and what lived too long. */
export class Eviction {
  readonly #deps: EvictionDeps;
  /** Full lanes in which room is looked for. */
  readonly #sweeping = new Set<Lane>();

  constructor(deps: EvictionDeps) {
    this.#deps = deps;
  }

  /** Room for one message of so many bytes. Throws `lane_full`. */
  makeRoomIn(lane: Lane, bytes: number, key = ""): void {
    // What could not fit in an empty lane must not empty it.
    const drops = lane.options.whenFull === "drop-oldest" && lane.couldHold(1, bytes);
    const hasRoom = (): boolean => {
      const old = lane.latest?.current(key);
      return old ? lane.hasRoomFor(0, bytes - old.bytes) : lane.hasRoomFor(1, bytes);
    };
    while (!hasRoom()) {
      if (drops && this.#dropOldest(lane, "full")) continue;
      if (!drops && this.expireForRoom(lane, hasRoom)) return;
      const text = `The lane ${lane.name} is full: ${lane.messages} messages, ${lane.bytes} bytes.`;
      throw new HoldfastError("lane_full", text, { details: { lane: lane.name } });
    }
  }

  /**
   * Lets the oldest messages go, of the last of these lanes first, until so many bytes are free;
   * lanes that refuse keep theirs. Gives the bytes of what it let go.
   */
  free(lanes: readonly Lane[], bytes: number, reason: LossReason): number {
    let freed = 0;
    for (const lane of lanes.toReversed()) {
      if (lane.options.whenFull !== "drop-oldest") continue;
      const before = lane.bytes;
      while (freed + before - lane.bytes < bytes && this.#dropOldest(lane, reason)) {}
      freed += before - lane.bytes;
    }
    return freed;
  }

  drop(entry: Entry, reason: LossReason): void {
    const { lane, packet, epoch, seq, acceptedAt } = entry;
    lane.countDropped(reason, 1);
    const end = { id: messageId(epoch, seq), at: Math.round(acceptedAt.wallMs) };
    const loss = { messages: 1, bytes: packet.length, from: end, to: end, exact: true };
    this.#deps.countLoss({ lane: lane.name, reason, ...loss });
    this.#deps.letGo(entry, reason);
  }

  /** Messages of a record that memory does not hold. */
  droppedUnread({ record, mask, loss }: Dropped, reason: LossReason): void {
    if (loss.messages === 0) return;
    record.lane.countDropped(reason, loss.messages);
    this.#deps.countLoss({ lane: record.lane.name, reason, ...loss });
    this.#deps.committer.noteLetGo(record, { why: reason, mask });
  }

  /**
   * Lets go of what lived too long at the head of a lane, so that it goes also while nothing is
   * sent. On disk the lane's lifetime decides what is looked at: messages with a shorter one of
   * their own go when they are at the head in memory, or when they are taken.
   */
  async sweep(lane: Lane, mostReads = SWEEP_READS): Promise<void> {
    for (let reads = 0; this.#deps.isRunning(); ) {
      const now = this.#deps.now();
      if (lane.mustLoad) {
        const oldest = lane.stored.peek();
        const ageMs = oldest ? provenAgeMs(oldest.time, now) : 0;
        const over = lane.options.ttlMs > 0 && ageMs > lane.options.ttlMs;
        if (!over || lane.unreadableUntilMs > now.monotonicMs || ++reads > mostReads) return;
        await this.#deps.load(lane);
      } else {
        const run = lane.headRun;
        if (run && !isRunOver(run, now)) return;
        const entry = lane.peek();
        if (!entry || !isOver(entry, now)) return;
        lane.shift();
        this.drop(entry, "ttl");
      }
    }
  }

  /**
   * A full lane that lets nothing go: what lived too long at its head makes room. What is on disk has
   * to be read first, so that who comes next finds the room.
   */
  expireForRoom(lane: Lane, hasRoom: () => boolean): boolean {
    const now = this.#deps.now();
    for (let entry = lane.peek(); entry && isOver(entry, now); entry = lane.peek()) {
      lane.shift();
      this.drop(entry, "ttl");
      if (hasRoom()) return true;
    }
    if (lane.mustLoad && !this.#sweeping.has(lane)) {
      this.#sweeping.add(lane);
      this.sweep(lane, Number.POSITIVE_INFINITY)
        .catch((error: unknown) => {
          const failed = { lane: lane.name, error: describeError(error) };
          this.#deps.log.error("lane not swept", failed);
        })
        .finally(() => this.#sweeping.delete(lane));
    }
    return false;
  }

  /** False when nothing may be dropped: all the rest is in flight, promised or not yet accepted. */
  #dropOldest(lane: Lane, reason: LossReason): boolean {
    const { records, quarantine } = this.#deps;
    if (lane.mustLoad) {
      const record = lane.shiftStored();
      if (record) {
        this.droppedUnread(records.dropUnheld(record), reason);
        return true;
      }
    }
    const entry = lane.mustLoad ? lane.shiftTail() : lane.peek();
    if (entry?.place !== "stored") return false;
    if (!lane.mustLoad) lane.shift();
    if (quarantine.owns(entry)) quarantine.retract(entry);
    else this.drop(entry, reason);
    return true;
  }
}
