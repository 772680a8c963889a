import type { Clock } from "../core/clock.ts";
import { describeError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { Alarms } from "../health/health.ts";
import type { DurableOutbox } from "../outbox/outbox.ts";
import type { DatabaseStore, Room } from "../store/store.ts";
import { roomTrouble, writeTrouble } from "./store-trouble.ts";

/** What the watch sees when it decides whether to compact. */
export interface CompactionFacts {
  /** Bytes of the database's files. */
  readonly databaseBytes: number;
  /** Bytes of the messages in it, without what surrounds them. */
  readonly liveBytes: number;
  /** Written since the last look. */
  readonly writtenBytes: number;
  readonly sinceLastMs: number;
  /** The quota or the floor of free space is near. */
  readonly pressed: boolean;
}

const MB = 1_048_576;
/** Anchor and ballast. */
const SECURE_MS = 60_000;

/**
 * Pure. Space of deleted records comes back by compaction only. A drained database is compacted at
 * once; one that still holds much, before the oldest record of each lane, when half of it is
 * garbage. Never in heavy traffic, unless room is needed.
 */
export function shouldCompact(facts: CompactionFacts): boolean {
  const { databaseBytes, liveBytes, writtenBytes, sinceLastMs, pressed } = facts;
  const garbage = databaseBytes - 1.3 * liveBytes;
  if (pressed && garbage > 4 * MB && sinceLastMs >= 20_000) return true;
  if (writtenBytes > 8 * MB) return false;
  if (liveBytes < databaseBytes / 64) {
    return databaseBytes > 4 * MB
      ? sinceLastMs >= 4_000
      : databaseBytes > MB && sinceLastMs >= 60_000;
  }
  return garbage > 32 * MB && garbage > databaseBytes / 2 && sinceLastMs >= 600_000;
}

/**
 * Looks after the disk: room, compaction, anchor, ballast, and a store that does not work. When the
 * quota or the floor is near, what is set aside goes first, then the garbage of the database, then
 * messages of lanes that may drop.
 */
export class StoreWatch {
  readonly #store: DatabaseStore;
  readonly #outbox: DurableOutbox;
  readonly #alarms: Pick<Alarms, "raise" | "clear">;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #onRecoverable: () => void;
  #looking: Promise<void> | undefined;
  #again = false;
  #compactedMs = Number.NEGATIVE_INFINITY;
  #securedMs = Number.NEGATIVE_INFINITY;
  #written = 0;
  #lossTold = false;

  constructor(parts: {
    readonly store: DatabaseStore;
    readonly outbox: DurableOutbox;
    readonly alarms: Pick<Alarms, "raise" | "clear">;
    readonly clock: Clock;
    readonly log: Logger;
    /** The store could not be opened at the start and could be now. */
    readonly onRecoverable: () => void;
  }) {
    this.#store = parts.store;
    this.#outbox = parts.outbox;
    this.#alarms = parts.alarms;
    this.#clock = parts.clock;
    this.#log = parts.log.child("store");
    this.#onRecoverable = parts.onRecoverable;
  }

  /** Never rejects. A call during a look is answered by one more look. */
  async look(): Promise<void> {
    if (this.#looking !== undefined) {
      this.#again = true;
      return this.#looking;
    }
    do {
      this.#again = false;
      this.#looking = this.#look().catch((error: unknown) => {
        this.#log.warn("look at the disk failed", { error: describeError(error) });
      });
      await this.#looking;
      this.#looking = undefined;
    } while (this.#again);
  }

  async #look(): Promise<void> {
    const store = this.#store;
    this.#tell();
    if (store.state === "absent" || store.state === "read-only") {
      if (await store.recoverable()) this.#onRecoverable();
      return;
    }
    // Opens the database again where nobody else writes.
    if (store.state === "failed") await store.commit([], { sync: true }).catch(() => undefined);
    if (store.state !== "open") return;
    const room = await store.look();
    const overBytes = room?.overBytes ?? 0;
    const compacted = await this.#compact(overBytes > 0);
    if (room && overBytes > 0 && !compacted && !(await store.removeAside())) this.#letGo(room);
    const now = this.#clock.monotonicMs();
    if (now - this.#securedMs >= SECURE_MS) {
      this.#securedMs = now;
      await store.secure();
    }
    this.#tell();
  }

  /** On a disk that others filled messages go only where that brings the floor back. */
  #letGo({ overBytes, overQuotaBytes }: Room): void {
    const enough = this.#outbox.droppableBytes >= overBytes;
    const freed = this.#outbox.makeRoom(enough ? overBytes : overQuotaBytes, "quota");
    if (freed > 0) this.#log.warn("messages let go for their room", { bytes: freed });
  }

  async #compact(pressed: boolean): Promise<boolean> {
    const { lanes } = this.#outbox.stats();
    const now = this.#clock.monotonicMs();
    const written = this.#store.bytesWritten;
    const databaseBytes = await this.#store.size();
    const waiting = Object.values(lanes).reduce((sum, { bytes }) => sum + bytes, 0);
    const aside = this.#outbox.quarantine.diskBytes;
    const liveBytes = waiting + aside;
    const wanted = shouldCompact({
      databaseBytes,
      liveBytes,
      writtenBytes: written - this.#written,
      sinceLastMs: now - this.#compactedMs,
      pressed,
    });
    this.#written = written;
    if (!wanted) return false;
    this.#compactedMs = now;
    for (const { from, to } of this.#outbox.drainedRanges()) {
      await this.#store.compact("outbox", from, to);
    }
    if (liveBytes < databaseBytes / 64) await this.#store.compact("ledger");
    if (aside === 0) await this.#store.compact("quarantine");
    const after = await this.#store.size();
    this.#log.info("compacted", { before: databaseBytes, after });
    return true;
  }

  #tell(): void {
    const { state, salvage, shortFrom } = this.#store;
    const broken = state === "failed" || state === "absent" || state === "read-only";
    this.#set("store.not_writable", broken, "critical", writeTrouble(this.#store) ?? "");
    const noRoom = roomTrouble(this.#store);
    const severity = shortFrom <= 1 ? "critical" : "warning";
    this.#set("store.no_room", noRoom !== undefined, severity, noRoom ?? "");
    const { outcome = "", cause = "", aside = "" } = salvage ?? {};
    const told = `The database was damaged (${outcome}; the original is ${aside}): ${cause}`;
    this.#set("store.salvaged", salvage !== undefined, "warning", told);
    if (salvage?.outcome !== "replaced" || this.#lossTold) return;
    this.#lossTold = true;
    // Nobody can say how many of its records were still to be sent.
    const loss = { messages: 0, bytes: 0, from: null, to: null, exact: false };
    this.#outbox.countLoss({ lane: null, reason: "damage", ...loss });
  }

  #set(name: string, wrong: boolean, severity: "critical" | "warning", cause: string): void {
    if (wrong) this.#alarms.raise(name, { severity, cause });
    else this.#alarms.clear(name);
  }
}
