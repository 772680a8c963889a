/**
 * What waits for one client, by number. A message here is in one of three states:
 *
 * - waiting: may be pushed as soon as the client is there
 * - live: a connection has it, pushed or about to be; `release` or `remove` ends that
 * - cooling: it was pushed and not acknowledged before the connection ended; it becomes waiting at
 *   `visibleAtMs` (lmq-protocol 6: offline only after the ack timeout)
 *
 * How often a message was pushed is known while the service runs and counts from 0 after a restart.
 *
 * There may be a mailbox for each of a million messages, so a waiting one costs one number, and what
 * the others need is made when there are some.
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

/** Room that is given back only when it is worth a copy. */
const SLACK = 64;

export class Mailbox {
  /** Of the waiting ones 2 * seq, plus 1 for one sent directly; rising, from `#head` on. */
  #waiting: number[] | undefined;
  #head = 0;
  #held: Map<number, Held> | undefined;

  get size(): number {
    return this.#waitingCount + (this.#held?.size ?? 0);
  }

  /** Messages of all states. */
  seqs(): number[] {
    const waiting = this.#waiting?.slice(this.#head).map(seqOf) ?? [];
    return [...waiting, ...(this.#held?.keys() ?? [])];
  }

  /** Messages of all states that came through a subscription. */
  subscribedSeqs(): number[] {
    const waiting = this.#waiting?.slice(this.#head).filter((code) => !isDirect(code)) ?? [];
    const held = [...(this.#held ?? [])].filter(([, { direct }]) => !direct);
    return [...waiting.map(seqOf), ...held.map(([seq]) => seq)];
  }

  add(seq: number, direct: boolean): void {
    // A literal has room for one alone, where a push makes room for seventeen.
    if (this.#waiting) this.#waiting.push(codeOf(seq, direct));
    else this.#waiting = [codeOf(seq, direct)];
  }

  /** Makes one waiting message live: a connection pushes it as it arrives. */
  claim(seq: number): void {
    const code = this.#removeWaiting(seq);
    if (code !== undefined) this.#hold(code);
  }

  /** Makes up to `max` messages live, the oldest or the newest first. */
  take(max: number, nowMs: number, order: "oldest" | "newest" = "oldest"): Taken[] {
    const sign = order === "oldest" ? 1 : -1;
    const cooled = [...(this.#held ?? [])].filter(([, held]) => held.visibleAtMs <= nowMs);
    cooled.sort(([a], [b]) => sign * (a - b));
    const taken: Taken[] = [];
    while (taken.length < max) {
      const [cool] = cooled;
      const code = this.#waitingCount === 0 ? undefined : this.#end(order);
      if (cool && (code === undefined || sign * (cool[0] - seqOf(code)) < 0)) {
        cooled.shift();
        const [seq, held] = cool;
        held.visibleAtMs = Number.POSITIVE_INFINITY;
        taken.push({ seq, pushes: held.pushes });
      } else if (code !== undefined) {
        this.claim(seqOf(code));
        taken.push({ seq: seqOf(code), pushes: 0 });
      } else break;
    }
    return taken;
  }

  /**
   * The connection that had it ended, or had no room: it may be taken again at `visibleAtMs`. One
   * that was never pushed waits at once, at the cost of its number.
   */
  release(seq: number, pushes: number, visibleAtMs: number): void {
    const held = this.#held?.get(seq);
    if (!held) return;
    if (pushes === 0) {
      this.#held?.delete(seq);
      this.#insert(codeOf(seq, held.direct));
      return;
    }
    held.pushes = pushes;
    held.visibleAtMs = visibleAtMs;
  }

  /** False when it is not here. */
  remove(seq: number): boolean {
    return (this.#held?.delete(seq) ?? false) || this.#removeWaiting(seq) !== undefined;
  }

  /** When the next message may be taken; undefined when none ever without a release. */
  nextVisibleMs(nowMs: number): number | undefined {
    if (this.#waitingCount > 0) return nowMs;
    let next = Number.POSITIVE_INFINITY;
    for (const { visibleAtMs } of this.#held?.values() ?? []) next = Math.min(next, visibleAtMs);
    return Number.isFinite(next) ? next : undefined;
  }

  get #waitingCount(): number {
    return (this.#waiting?.length ?? 0) - this.#head;
  }

  #end(order: "oldest" | "newest"): number | undefined {
    return order === "oldest" ? this.#waiting?.[this.#head] : this.#waiting?.at(-1);
  }

  #hold(code: number): void {
    this.#held ??= new Map();
    const visibleAtMs = Number.POSITIVE_INFINITY;
    this.#held.set(seqOf(code), { direct: isDirect(code), pushes: 0, visibleAtMs });
  }

  /** Where its number belongs: nearly always at an end, or where it was just taken. */
  #insert(code: number): void {
    if (!this.#waiting) {
      this.#waiting = [code];
      return;
    }
    const at = this.#find(seqOf(code));
    if (at === this.#waiting.length) this.#waiting.push(code);
    else if (at === this.#head && at > 0) this.#waiting[--this.#head] = code;
    else this.#waiting.splice(at, 0, code);
  }

  #removeWaiting(seq: number): number | undefined {
    const waiting = this.#waiting;
    if (!waiting) return undefined;
    const at = this.#find(seq);
    const code = waiting[at];
    if (code === undefined || seqOf(code) !== seq) return undefined;
    if (at === waiting.length - 1) waiting.pop();
    else if (at === this.#head) this.#head++;
    else waiting.splice(at, 1);
    if (this.#waitingCount === 0) {
      this.#waiting = undefined;
      this.#head = 0;
    } else if (this.#head > SLACK && this.#head * 2 > waiting.length) {
      this.#waiting = waiting.slice(this.#head);
      this.#head = 0;
    }
    return code;
  }

  /** Where `seq` is or would be among the waiting ones. */
  #find(seq: number): number {
    const waiting = this.#waiting ?? [];
    if (seqOf(waiting[this.#head] ?? 0) === seq) return this.#head;
    let low = this.#head;
    let high = waiting.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (seqOf(waiting[middle] as number) < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function codeOf(seq: number, direct: boolean): number {
  return 2 * seq + (direct ? 1 : 0);
}

function seqOf(code: number): number {
  return Math.floor(code / 2);
}

function isDirect(code: number): boolean {
  return code % 2 === 1;
}
