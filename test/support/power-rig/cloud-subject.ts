import { fileURLToPath } from "node:url";
import type { Subject } from "./rig.ts";

export const nameOf = (device: string | number): string => `GID_demo@@@${device}`;
/** Each has subscribed to the telemetry, and is sent P2P messages. */
export const RECEIVERS = Array.from({ length: 5 }, (_, i) => nameOf(i));
export const LATE_COMERS = Array.from({ length: 20 }, (_, i) => nameOf(`late-${i}`));
export const TELEMETRY = "GW_UP/telemetry";

export interface CloudVerdict {
  /** Deliveries owed for what senders were told is accepted, before the cut. */
  readonly owed: number;
  /** Of these: neither acknowledged by the receiver before the cut nor delivered after it. */
  readonly lost: number;
  /** Acknowledged by the receiver, with a synced commit behind it, and delivered again. */
  readonly revived: number;
  /** Acknowledged by the receiver and delivered again: what was not synced yet. */
  readonly repeated: number;
  /** Delivered to one to whom it was not sent. */
  readonly misdirected: number;
  /** Clients that were told of their subscription and have none. */
  readonly unsubscribed: number;
}

/** The local service: what was acknowledged, to either side, over a cut. */
export const cloudSubject: Subject<CloudVerdict> = {
  program: fileURLToPath(new URL("./cloud-child.ts", import.meta.url)),
  judge,
  trouble: (told) => {
    const { writable, expired } = JSON.parse(told);
    return writable === true && expired === 0 ? undefined : told;
  },
};

function judge(before: readonly string[], after: readonly string[]): CloudVerdict {
  const said = readMarks(before);
  const again = new Set(wordsOf(after, "received").map(([number, by]) => `${number} ${by}`));
  const owed = [...said.accepted].flatMap((number) =>
    receiversOf(said.published.get(number) ?? "").map((by) => `${number} ${by}`),
  );
  const standing = new Set(
    ["present", "served"].flatMap((word) =>
      wordsOf(after, word).map(([clientId]) => `${word} ${clientId}`),
    ),
  );
  const count = (keys: Iterable<string>, test: (key: string) => boolean): number =>
    [...keys].filter(test).length;
  return {
    owed: owed.length,
    lost: count(owed, (key) => !said.acked.has(key) && !again.has(key)),
    revived: count(said.synced, (key) => again.has(key)),
    repeated: count(said.acked, (key) => again.has(key)),
    misdirected: count(again, (key) => {
      const [number = "", by = ""] = key.split(" ");
      return !receiversOf(said.published.get(number) ?? "").includes(by);
    }),
    unsubscribed: count(
      said.subscribed,
      (clientId) => !standing.has(`present ${clientId}`) || !standing.has(`served ${clientId}`),
    ),
  };
}

interface Said {
  /** To whom, by number. */
  readonly published: ReadonlyMap<string, string>;
  readonly accepted: ReadonlySet<string>;
  /** `NUMBER RECEIVER`: its PUBACK may have been on its way. */
  readonly acked: ReadonlySet<string>;
  /** The same: the service had its PUBACK before it synced something that came later. */
  readonly synced: ReadonlySet<string>;
  readonly subscribed: ReadonlySet<string>;
}

/**
 * A PUBACK of a receiver is safe once a later PUBLISH was accepted in the same life of the service:
 * the commits are in order. But a message that was acknowledged by its receivers before it was
 * accepted may never have been written, and proves nothing.
 */
function readMarks(marks: readonly string[]): Said {
  const published = new Map<string, string>();
  const publishedAt = new Map<string, number>();
  const accepted = new Set<string>();
  const acked = new Set<string>();
  const ackedNumbers = new Set<string>();
  const settledAt = new Map<string, number>();
  const synced = new Set<string>();
  const subscribed = new Set<string>();
  let provenAt = -1;
  const endOfLife = (): void => {
    for (const [key, at] of settledAt) if (at < provenAt) synced.add(key);
    settledAt.clear();
  };
  marks.forEach((mark, at) => {
    const [word, number = "", who = "", how = ""] = mark.split(" ");
    if (word === "ready") endOfLife();
    else if (word === "published") {
      published.set(number, who);
      publishedAt.set(number, at);
    } else if (word === "accepted") {
      accepted.add(number);
      if (!ackedNumbers.has(number)) {
        provenAt = Math.max(provenAt, publishedAt.get(number) ?? -1);
      }
    } else if (word === "received" && how === "ack") {
      acked.add(`${number} ${who}`);
      ackedNumbers.add(number);
    } else if (word === "settled") settledAt.set(`${number} ${who}`, at);
    else if (word === "subscribed") subscribed.add(number);
  });
  endOfLife();
  return { published, accepted, acked, synced, subscribed };
}

function receiversOf(to: string): readonly string[] {
  return to === "all" ? RECEIVERS : [to];
}

function wordsOf(lines: readonly string[], word: string): string[][] {
  return lines
    .map((line) => line.split(" "))
    .filter(([first]) => first === word)
    .map(([, ...words]) => words);
}
