/**
 * Deficit round robin: whose turn it is among members of one priority, by weight and bytes. Each
 * turn a member is granted bytes by its weight; it sends while what it has at its head fits what
 * was granted, and keeps the rest for its next turn. A member with nothing to send has no claim
 * on what others sent meanwhile. Over any time, members that always have something differ from
 * their shares by no more than a turn and a message.
 */
interface Member<T> {
  readonly item: T;
  readonly turnBytes: number;
  credit: number;
}

/** What the member with the smallest weight is granted each turn. */
const TURN_BYTES = 4_096;

export class FairShare<T> {
  readonly #members: readonly Member<T>[];
  #turn = 0;
  /** The member whose turn it is has its grant. */
  #granted = false;

  constructor(members: readonly { readonly item: T; readonly weight: number }[]) {
    const least = Math.min(...members.map(({ weight }) => weight));
    this.#members = members.map(({ item, weight }) => {
      return { item, turnBytes: (TURN_BYTES * weight) / least, credit: 0 };
    });
  }

  /**
   * Who sends next; undefined when nobody has anything. `headBytes` gives the size of a member's
   * next message, undefined when it has none. Asking twice gives the same answer until `charge`.
   */
  pick(headBytes: (item: T) => number | undefined): T | undefined {
    const only = this.#members.length === 1 ? this.#members[0] : undefined;
    if (only) return headBytes(only.item) === undefined ? undefined : only.item;
    for (let idle = 0; idle < this.#members.length; ) {
      const member = this.#members[this.#turn] as Member<T>;
      const bytes = headBytes(member.item);
      if (bytes === undefined) {
        member.credit = 0;
        idle++;
        this.#pass();
        continue;
      }
      idle = 0;
      if (!this.#granted) {
        member.credit += member.turnBytes;
        this.#granted = true;
      }
      if (bytes <= member.credit) return member.item;
      this.#pass();
    }
    return undefined;
  }

  /** Bytes that the one that was picked may send before it is the turn of another. */
  get allowance(): number {
    if (this.#members.length <= 1) return Number.POSITIVE_INFINITY;
    return this.#members[this.#turn]?.credit ?? 0;
  }

  /** The one that was picked sent so many bytes. */
  charge(bytes: number): void {
    const member = this.#members[this.#turn];
    if (member && this.#members.length > 1) member.credit -= bytes;
  }

  #pass(): void {
    this.#turn = (this.#turn + 1) % this.#members.length;
    this.#granted = false;
  }
}
