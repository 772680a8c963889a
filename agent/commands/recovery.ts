/**
 * Commands that an earlier run of the agent admitted and did not end. Whether they took effect
 * nobody can tell, so they never run again (I4) and end as `interrupted` (I5).
 *
 * They are found in three ways. The start reads the small records of the order, which tell them at
 * once. Where such a record is damaged, the repetition of the command finds its entry (`end`, called
 * by admission), and for senders that do not repeat, `lookOver` goes through the entries themselves
 * after the start: a few at a time, at most once a run, some 30 s for a full journal. It also gives
 * an ended entry its place in the order again, without which it was neither listed nor forgotten.
 * An entry that is damaged itself cannot be ended; its key stays, so its command is not run again.
 */
import type { Clock } from "../core/clock.ts";
import { describeError, isHoldfastError } from "../core/errors.ts";
import type { Counts } from "./counts.ts";
import type { CommandResult } from "./dispatcher.ts";
import type { Finisher } from "./finish.ts";
import { type Journal, type JournalEntry, journalKey } from "./journal.ts";
import { bounds, type CommandsDeps } from "./options.ts";
import type { Queues } from "./queues.ts";
import type { Ticket } from "./ticket.ts";

export interface RecoveryDeps extends Pick<CommandsDeps, "store" | "log"> {
  readonly clock: Clock;
  readonly journal: Journal;
  readonly finisher: Finisher;
  readonly queues: Queues;
  readonly counts: Counts;
}

const interrupted: CommandResult = {
  status: "interrupted",
  error: { code: "interrupted", message: "The agent stopped before the command had ended." },
};

export class Recovery {
  readonly #deps: RecoveryDeps;
  /** One call at a time, so that no command is ended twice. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(deps: RecoveryDeps) {
    this.#deps = deps;
  }

  /**
   * Ends those of these commands that an earlier run left unfinished, in one synced commit. When it
   * resolves they have ended, or are held in the queues while the disk or the reply lane does not
   * take their ends. Throws what reading throws, but for damage.
   */
  end(keys: readonly string[]): Promise<void> {
    const turn = this.#last.then(() => this.#end(keys));
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /** Resolves when all entries were looked at or `signal` aborted. Throws what the store throws. */
  async lookOver(signal: AbortSignal): Promise<void> {
    const { journal, clock } = this.#deps;
    for (let gt = ""; ; ) {
      await clock.sleep(bounds.lookOverEveryMs, signal); // Also at first: the start has enough to do.
      if (signal.aborted) return;
      const { entries, last } = await journal.entriesAfter(gt, bounds.lookOverStep);
      if (last === undefined) return;
      gt = last;
      const earlier = entries.filter(({ entry }) => !journal.isOfThisRun(entry));
      await this.end(earlier.filter(({ entry }) => !entry.final).map(({ key }) => key));
      for (const { key, entry } of earlier) if (entry.final) await this.#restorePlace(key);
    }
  }

  async #end(keys: readonly string[]): Promise<void> {
    const { finisher, log } = this.#deps;
    const left: JournalEntry[] = [];
    for (const key of new Set(keys)) {
      const entry = await this.#readUnfinished(key);
      if (entry) left.push(entry);
    }
    if (left.length === 0) return;
    log.info("commands interrupted", { count: left.length });
    try {
      await finisher.finishAll(left, interrupted);
    } catch (error) {
      if (!isHoldfastError(error)) throw error;
      log.warn("recovery goes on in the background", { error: describeError(error) });
      for (const entry of left) this.#endLater(entry);
    }
  }

  #endLater(entry: JournalEntry): void {
    this.#deps.queues.end(toTicket(entry), interrupted).catch((cause: unknown) => {
      this.#deps.log.error("recovery broke down", { error: describeError(cause) });
    });
  }

  async #readUnfinished(key: string): Promise<JournalEntry | undefined> {
    const { journal, queues } = this.#deps;
    // Before the disk is asked: it may end while the disk answers with what was there before.
    if (queues.find(key)) return undefined;
    const entry = await this.#read(key);
    if (!entry || entry.final || journal.isOfThisRun(entry)) return undefined;
    return (await journal.hasPlace(entry)) ? entry : journal.adopt(entry);
  }

  async #read(key: string): Promise<JournalEntry | undefined> {
    try {
      return await this.#deps.journal.find(key);
    } catch (error) {
      if (!isHoldfastError(error, "store_damaged")) throw error;
      this.#deps.counts.add("journal_damaged");
      this.#deps.log.error("journal entry damaged", { key });
      return undefined;
    }
  }

  async #restorePlace(key: string): Promise<void> {
    const { journal, store } = this.#deps;
    const entry = await this.#read(key);
    if (!entry || (await journal.hasPlace(entry))) return;
    // Read again: pruning may have taken entry and place in between; without a place it cannot.
    const still = await this.#read(key);
    if (!still) return;
    await store.commit(journal.admission(journal.adopt(still)), { sync: false });
  }
}

/** A command of an earlier run, whose place in the reply lane went with that process. */
function toTicket(entry: JournalEntry): Ticket {
  return {
    key: journalKey(entry.command),
    entry,
    progress: false,
    reservation: undefined,
    state: "finishing",
    noticed: false,
    ended: new AbortController(),
  };
}
