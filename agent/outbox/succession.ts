import type { Committer } from "./committer.ts";
import { answer, type Entry } from "./entry.ts";
import { placeOf, replacedBy } from "./latest.ts";
import type { Records } from "./records.ts";

export interface SuccessionDeps {
  readonly committer: Pick<Committer, "forget" | "noteLetGo">;
  readonly records: Pick<Records, "dropOne">;
  readonly letGo: (entry: Entry, why: "replaced") => void;
}

/** Who takes whose place in a lane that keeps only the newest message of a key. */
export class Succession {
  readonly #deps: SuccessionDeps;

  constructor(deps: SuccessionDeps) {
    this.#deps = deps;
  }

  /**
   * The message becomes the newest of its key, where the lane keeps only that. One that is nowhere
   * but in memory gives way at once; one that is on disk, or on its way there, when this one is safe,
   * because a put that is refused must not cost the message before it. Both count until then.
   */
  supersede(entry: Entry): void {
    const { lane, key } = entry;
    if (!lane.latest || key === "") return;
    const old = lane.latest.current(key);
    lane.latest.set(key, placeOf(entry), lane.messages);
    const before = old?.entry;
    const isNew = entry.place === "fresh";
    if (before?.place !== "fresh") {
      entry.replaces = old;
      entry.held = isNew && old !== undefined;
      return;
    }
    entry.replaces = before.replaces;
    entry.held = isNew && before.held === true;
    entry.alsoWaiting = before.alsoWaiting ?? [];
    if (before.waiting) entry.alsoWaiting.push(before.waiting);
    before.waiting = undefined;
    before.alsoWaiting = undefined;
    this.#deps.committer.forget(before);
    this.#deps.letGo(before, "replaced");
    lane.replaced++;
    lane.sweepReplaced();
    if (!isNew) answer(entry, "disk");
  }

  /** It is safe: what it took the place of goes, unless that is in flight by now. */
  replace(entry: Entry): void {
    if (!entry.replaces) return;
    const { lane } = entry;
    const old = replacedBy(entry);
    entry.replaces = undefined;
    if (!old) return;
    const { committer, records, letGo } = this.#deps;
    lane.replaced++;
    if (old.entry) {
      answer(old.entry, "disk");
      if (old.entry.place === "fresh") committer.forget(old.entry);
      letGo(old.entry, "replaced");
    } else if (old.record) {
      records.dropOne(old.record, old.index, old.bytes);
      committer.noteLetGo(old.record, { why: "replaced", mask: 1 << old.index });
    }
    lane.sweepReplaced();
  }
}
