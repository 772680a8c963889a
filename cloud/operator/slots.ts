/**
 * The client ids that a commander sends from: `<client_id>-1` to `-8`, one to a process at a time.
 *
 * A reply goes to the client id that sent the command, and a second connection with one client id
 * pushes the first one out, so each process takes an id for itself. The pool is small and the ids
 * stay the same, so that answers of earlier runs wait in a session that is used again soon.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import type { Clock } from "../../agent/core/clock.ts";
import { HoldfastError } from "../../agent/core/errors.ts";
import type { Random } from "../../agent/core/random.ts";
import { type LockFile, tryLock } from "./lock-file.ts";
import type { ProcessTable } from "./process-identity.ts";

export const SLOT_COUNT = 8;
/** How often a process that waits for a slot looks again. */
const LOOK_AGAIN_MS = 100;

/** Given back by `release`, or by leaving the scope of an `await using`. */
export interface Slot extends AsyncDisposable {
  /** 1 to 8. */
  readonly number: number;
  readonly clientId: string;
  release(): Promise<void>;
}

export interface SlotsOptions {
  /** Where the lock files are. */
  readonly dir: string;
  /** The commander's own client id, without a number. */
  readonly clientId: string;
}

export interface SlotsDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly processes: ProcessTable;
}

export class Slots {
  readonly #options: SlotsOptions;
  readonly #deps: SlotsDeps;

  constructor(options: SlotsOptions, deps: SlotsDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Waits for the first free slot; throws `too_many` when `signal` aborts before there is one. */
  async take(signal: AbortSignal): Promise<Slot> {
    for (;;) {
      for (let number = 1; number <= SLOT_COUNT; number++) {
        const slot = await this.tryTake(number);
        if (slot) return slot;
      }
      await this.#deps.clock.sleep(LOOK_AGAIN_MS, signal);
      if (signal.aborted) throw allTaken(this.#options.dir);
    }
  }

  /** This slot, or undefined when another process has it. */
  async tryTake(number: number): Promise<Slot | undefined> {
    const clientId = slotClientId(this.#options.clientId, number);
    const attempt = await tryLock(this.#lockPath(clientId), this.#deps);
    return attempt.taken ? makeSlot(number, clientId, attempt.lock) : undefined;
  }

  /** Named after the whole client id, so that two commanders on one machine do not share locks. */
  #lockPath(clientId: string): string {
    const readable = clientId.replaceAll(/[^A-Za-z0-9_-]+/g, "_").slice(-64);
    const digest = createHash("sha256").update(clientId).digest("hex").slice(0, 8);
    return join(this.#options.dir, `${readable}.${digest}.lock`);
  }
}

export function slotClientId(clientId: string, number: number): string {
  return `${clientId}-${number}`;
}

function makeSlot(number: number, clientId: string, lock: LockFile): Slot {
  const release = (): Promise<void> => lock.release();
  return { number, clientId, release, [Symbol.asyncDispose]: release };
}

function allTaken(dir: string): HoldfastError {
  return new HoldfastError(
    "too_many",
    `All ${SLOT_COUNT} client ids of this commander are in use by other holdfast processes ` +
      `(locks in ${dir}). Wait for one of them to end, or end one.`,
  );
}
