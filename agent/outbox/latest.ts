import type { Entry, StoredRecord } from "./entry.ts";
import { allOf } from "./masks.ts";

/** Where the newest message of a key is: in memory, on disk, or both. */
export interface Place {
  entry: Entry | undefined;
  record: StoredRecord | undefined;
  index: number;
  /** Of its packet. */
  readonly bytes: number;
}

/**
 * The newest message of each key in a lane that keeps only the latest. A message without a key is
 * not in it and is never replaced, nor is one in flight. Holds one small object a key and is bounded
 * by the lane: keys whose message is gone are swept out when they are more than those that stay. A
 * record that it refers to is pinned (`StoredRecord.pins`): one object more a key, while it is on disk.
 */
export class LatestIndex {
  readonly #byKey = new Map<string, Place>();

  /** The message that a new one of this key takes the place of. */
  current(key: string): Place | undefined {
    const place = this.#byKey.get(key);
    if (!place) return undefined;
    if (isReplaceable(place)) return place;
    this.#byKey.delete(key);
    return undefined;
  }

  set(key: string, place: Place, messages: number): void {
    this.#byKey.set(key, place);
    if (this.#byKey.size <= 64 + 2 * messages) return;
    for (const [name, other] of this.#byKey) if (!isReplaceable(other)) this.#byKey.delete(name);
  }

  /** The entry was read from disk. */
  loaded(entry: Entry): void {
    for (const place of this.#chain(entry.key)) {
      if (place.record !== entry.record || place.index !== entry.indexInRecord) continue;
      place.entry = entry;
      return;
    }
  }

  /** The entry leaves memory; the disk has it. */
  spilled(entry: Entry): void {
    for (const place of this.#chain(entry.key)) {
      if (place.entry !== entry) continue;
      place.entry = undefined;
      place.record = entry.record;
      place.index = entry.indexInRecord;
      return;
    }
  }

  /** The entry was not accepted: the one before it, if any, is the newest again. */
  refused(entry: Entry): void {
    if (this.#byKey.get(entry.key)?.entry !== entry) return;
    if (entry.replaces) this.#byKey.set(entry.key, entry.replaces);
    else this.#byKey.delete(entry.key);
  }

  /** The newest message of the key, and those that go when it is safe. */
  *#chain(key: string): Generator<Place> {
    for (let place = this.#byKey.get(key); place; place = place.entry?.replaces) yield place;
  }
}

export function placeOf(entry: Entry): Place {
  const { record, indexInRecord: index, packet } = entry;
  return { entry, record, index, bytes: packet.length };
}

/** What goes once the entry is safe; a message between the two may have been refused. */
export function replacedBy(entry: Entry): Place | undefined {
  let place = entry.replaces;
  while (place?.entry?.place === "gone") place = place.entry.replaces;
  return place && isReplaceable(place) ? place : undefined;
}

function isReplaceable({ entry, record, index }: Place): boolean {
  if (entry) return entry.place !== "gone" && !entry.taken;
  return record !== undefined && (record.gone & (1 << index)) === 0;
}

/** Whether the index of a lane will refer to the record of these messages: 1, else 0. */
export function indexPins(
  lane: { readonly latest: LatestIndex | undefined },
  messages: readonly { readonly key: string }[],
): number {
  return lane.latest && messages.some(({ key }) => key !== "") ? 1 : 0;
}

export function isWhollyGone(record: StoredRecord): boolean {
  return (allOf(record.count) & ~record.gone) === 0;
}
