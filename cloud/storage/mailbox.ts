/**
 * What waits for one client, by number. A message here is in one of three states:
 *
 * - waiting: may be pushed as soon as the client is there
 * - live: a connection has it, pushed or about to be; `release` or `remove` ends that
 * - cooling: it was pushed and not acknowledged before the connection ended; it becomes waiting at
 *   `visibleAtMs` (lmq-protocol 6: offline only after the ack timeout)
 *
 * How often a message was pushed is known while the service runs and counts from 0 after a restart.
 */
export interface Taken {
  readonly seq: number;
  /** Times it was pushed before. */
  readonly pushes: number;
}

interface Held {
  readonly direct: boolean;
  pushes: number;
  /** Infinity while live. */
  visibleAtMs: number;
}

export class Mailbox {
  readonly #direct = new SeqQueue();
  readonly #subscribed = new SeqQueue();
  readonly #held = new Map<number, Held>();

  get size(): number {
    return this.#direct.length + this.#subscribed.length + this.#held.size;
  }

  /** Messages of all states that came through a subscription. */
  subscribedSeqs(): number[] {
    const held = [...this.#held].filter(([, { direct }]) => !direct).map(([seq]) => seq);
    return [...this.#subscribed.all(), ...held];
  }

  add(seq: number, direct: boolean): void {
    (direct ? this.#direct : this.#subscribed).push(seq);
  }

  /** Makes one waiting message live: a connection pushes it as it arrives. */
  claim(seq: number, direct: boolean): void {
    if ((direct ? this.#direct : this.#subscribed).remove(seq)) {
      this.#held.set(seq, { direct, pushes: 0, visibleAtMs: Number.POSITIVE_INFINITY });
    }
  }

  /** Makes up to `max` messages live, the oldest first. */
  take(max: number, nowMs: number): Taken[] {
    const cooled = [...this.#held].filter(([, held]) => held.visibleAtMs <= nowMs);
    cooled.sort(([a], [b]) => a - b);
    const taken: Taken[] = [];
    while (taken.length < max) {
      const cooledSeq = cooled[0]?.[0] ?? Number.POSITIVE_INFINITY;
      const directSeq = this.#direct.head ?? Number.POSITIVE_INFINITY;
      const subscribedSeq = this.#subscribed.head ?? Number.POSITIVE_INFINITY;
      const seq = Math.min(cooledSeq, directSeq, subscribedSeq);
      if (!Number.isFinite(seq)) break;
      if (seq === cooledSeq) {
        const [, held] = cooled.shift() as [number, Held];
        held.visibleAtMs = Number.POSITIVE_INFINITY;
        taken.push({ seq, pushes: held.pushes });
      } else {
        this.claim(seq, seq === directSeq);
        taken.push({ seq, pushes: 0 });
      }
    }
    return taken;
  }

  /** A live message was not pushed for want of room: it waits again, at the cost of its number. */
  putBack(seq: number): void {
    const held = this.#held.get(seq);
    if (!held) return;
    this.#held.delete(seq);
    (held.direct ? this.#direct : this.#subscribed).insert(seq);
  }

  /** The connection that had it ended, or had no room: it may be taken again at `visibleAtMs`. */
  release(seq: number, pushes: number, visibleAtMs: number): void {
    const held = this.#held.get(seq);
    if (!held) return;
    held.pushes = pushes;
    held.visibleAtMs = visibleAtMs;
  }

  /** False when it is not here. */
  remove(seq: number): boolean {
    return this.#held.delete(seq) || this.#direct.remove(seq) || this.#subscribed.remove(seq);
  }

  /** When the next message may be taken; undefined when none ever without a release. */
  nextVisibleMs(nowMs: number): number | undefined {
    if (this.#direct.length + this.#subscribed.length > 0) return nowMs;
    let next = Number.POSITIVE_INFINITY;
    for (const { visibleAtMs } of this.#held.values()) next = Math.min(next, visibleAtMs);
    return Number.isFinite(next) ? next : undefined;
  }
}

/** Rising numbers, nearly always taken at the head or just added at the end. */
class SeqQueue {
  #items: number[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  get head(): number | undefined {
    return this.#items[this.#head];
  }

  push(seq: number): void {
    this.#items.push(seq);
  }

  /** Where its number belongs: nearly always at the end, or where it was just taken. */
  insert(seq: number): void {
    const at = this.#find(seq);
    if (at === this.#items.length) this.#items.push(seq);
    else if (at === this.#head && at > 0) this.#items[--this.#head] = seq;
    else this.#items.splice(at, 0, seq);
  }

  all(): number[] {
    return this.#items.slice(this.#head);
  }

  remove(seq: number): boolean {
    if (seq === this.#items[this.#head]) {
      this.#head++;
      if (this.#head > 64 && this.#head * 2 > this.#items.length) {
        this.#items = this.#items.slice(this.#head);
        this.#head = 0;
      }
      return true;
    }
    const at = this.#find(seq);
    if (this.#items[at] !== seq) return false;
    this.#items.splice(at, 1);
    return true;
  }

  /** Where `seq` is or would be. */
  #find(seq: number): number {
    let low = this.#head;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#items[middle] as number) < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
