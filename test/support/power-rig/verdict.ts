import { SETTLE_EVERY, WINDOW } from "./bounds.ts";

export interface Received {
  readonly number: number;
  readonly id: string;
  readonly topic: string;
}

/** What was said up to the cut. */
export interface Said {
  readonly accepted: ReadonlyMap<number, string>;
  readonly received: readonly Received[];
  readonly acknowledged: ReadonlySet<number>;
}

export interface Verdict {
  readonly accepted: number;
  readonly lost: number;
  readonly outOfOrder: number;
  /** Came again after the cut, and how many may. */
  readonly duplicates: number;
  readonly allowed: number;
  /** Came again under another id. */
  readonly renamed: number;
}

/** The marks in front of the cut; a process that started over counts them on. */
export function saidIn(marks: Iterable<string>): Said {
  const said = {
    accepted: new Map<number, string>(),
    received: [] as Received[],
    acknowledged: new Set<number>(),
  };
  for (const mark of marks) {
    const [word, number, id = "", topic = ""] = mark.trim().split(" ");
    if (word === "accepted") said.accepted.set(Number(number), id);
    else if (word === "received") said.received.push({ number: Number(number), id, topic });
    else if (word === "acknowledged") said.acknowledged.add(Number(number));
  }
  return said;
}

/** I1, I2, I3 over a cut: `after` is what was sent by the process that started after it. */
export function judge(said: Said, after: readonly Received[]): Verdict {
  const before = new Map(said.received.map((one) => [one.number, one.id]));
  const again = new Map(after.map((one) => [one.number, one.id]));
  const lost = [...said.accepted.keys()].filter(
    (number) => !again.has(number) && !said.acknowledged.has(number),
  );
  const duplicates = [...again.keys()].filter((number) => before.has(number));
  const renamed = duplicates.filter((number) => before.get(number) !== again.get(number));
  const accepted = [...said.accepted].filter(([number, id]) => (again.get(number) ?? id) !== id);
  return {
    accepted: said.accepted.size,
    lost: lost.length,
    outOfOrder: countDisorder([...said.received, ...after]),
    duplicates: duplicates.length,
    allowed: WINDOW + SETTLE_EVERY,
    renamed: renamed.length + accepted.length,
  };
}

/** First deliveries that came after one with a higher number in their stream. */
function countDisorder(received: readonly Received[]): number {
  const seen = new Set<number>();
  const last = new Map<string, number>();
  let count = 0;
  for (const { number, topic } of received) {
    if (seen.has(number)) continue;
    seen.add(number);
    if (number < (last.get(topic) ?? 0)) count++;
    else last.set(topic, number);
  }
  return count;
}
