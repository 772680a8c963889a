import type { Report } from "./load.ts";
import { choice, integer, type Loaded, named, number } from "./table.ts";

const DAY_S = 86_400;

export const lanes = named(
  "Lanes, classes of outgoing messages. reply, alarm, event, telemetry and bulk always exist; any other name makes a lane of its own, with the defaults of telemetry.",
  {
    priority: integer({ default: 5, min: 1, max: 9, doc: "1 is sent first and dropped last." }),
    max_messages: integer({
      default: 1_000_000,
      min: 1,
      max: 100_000_000,
      unit: "messages",
      doc: "Messages held at most.",
    }),
    max_mb: number({
      default: 128,
      min: 0.25,
      max: 1_000_000,
      unit: "MB",
      doc: "Bytes held at most. Where it is not set it shrinks so that all lanes fit state.quota_mb.",
    }),
    ttl_s: integer({
      default: 3 * DAY_S,
      min: 0,
      max: 36_500 * DAY_S,
      unit: "s",
      doc: "Lifetime of a message; 0 is none. Only time that is provable counts.",
    }),
    when_full: choice(["drop-oldest", "refuse"], {
      default: "drop-oldest",
      doc: "drop-oldest: the oldest give way and are reported as a gap. refuse: the producer is told.",
    }),
    keep: choice(["all", "latest"], {
      default: "all",
      doc: "latest: only the newest message of a key is kept.",
    }),
    share: integer({
      default: 1,
      min: 1,
      max: 1_000,
      doc: "Weight in draining, among lanes of one priority.",
    }),
    payload: choice(["raw", "cloudevents"], {
      default: "raw",
      doc: "cloudevents: each payload is wrapped as CloudEvents 1.0 JSON.",
    }),
  },
  {
    reply: {
      doc: "Answers to commands.",
      defaults: { priority: 1, when_full: "refuse", ttl_s: 0, max_messages: 10_000, max_mb: 32 },
    },
    alarm: {
      doc: "Alarms, raised and cleared.",
      defaults: {
        ...{ priority: 2, when_full: "refuse", ttl_s: 0, max_messages: 1_000, max_mb: 4 },
        keep: "latest",
      },
    },
    event: {
      doc: "Health reports, gaps and what producers call events.",
      defaults: { priority: 3, ttl_s: 30 * DAY_S, max_messages: 100_000, max_mb: 16 },
    },
    telemetry: { doc: "What has no other lane.", defaults: {} },
    bulk: {
      doc: "Large things without hurry.",
      defaults: { priority: 9, when_full: "refuse", max_messages: 1_000, max_mb: 32 },
    },
  },
);

export type LaneConfig = Loaded<typeof lanes>[string];
type Lanes = Loaded<typeof lanes>;

/** What lanes need on disk beside their payloads: headers, checksums, tables not yet compacted. */
const OVERHEAD = 1.3;
/** Journal, state and ballast. */
const FIXED_MB = 8;
/** A lane under this could not hold a few messages of the largest size. */
const SMALLEST_MB = 0.25;

/**
 * Lanes that fit the quota: those without a `max_mb` of their own are scaled down by one factor,
 * with a warning that says to what. When they cannot fit it is an error that says what would do.
 */
export function fitLanes(given: Lanes, quotaMb: number, report: Report): Lanes {
  const keyOf = (name: string): string => `outbox.lanes.${name}.max_mb`;
  const all = Object.entries(given);
  const own = all.filter(([name]) => report.isSet(keyOf(name)));
  const scalable = all.filter(([name]) => !report.isSet(keyOf(name)));
  const ownMb = sumMb(own);
  const scalableMb = sumMb(scalable);
  const roomMb = (quotaMb - FIXED_MB) / OVERHEAD - ownMb;
  if (scalableMb <= roomMb) return given;

  const scaled = scalable.map(([name, lane]) => {
    const max_mb = Math.floor((lane.max_mb * roomMb * 100) / scalableMb) / 100;
    return [name, { ...lane, max_mb }] as const;
  });
  // A lane that is already at the floor by the operator's own choice is not among these.
  if (roomMb < 0 || scaled.some(([, lane]) => lane.max_mb < SMALLEST_MB)) {
    const needed = (ownMb + leastMb(scalable)) * OVERHEAD + FIXED_MB;
    const keys = ["state.quota_mb", ...own.map(([name]) => keyOf(name))] as const;
    report.wrong(
      ["state.quota_mb", ...keys.slice(1)],
      `the lanes do not fit: ${own.length} of them ask for ${ownMb} MB in all, and the sum of ` +
        `max_mb times ${OVERHEAD} plus ${FIXED_MB} must be at most the quota of ${quotaMb} MB; ` +
        `expected a quota of at least ${Math.ceil(needed)} MB, or smaller lanes`,
    );
    return given;
  }
  for (const [name, lane] of scaled) {
    const message = `scaled down from ${given[name]?.max_mb} to ${lane.max_mb} MB to fit state.quota_mb = ${quotaMb}`;
    report.warn(keyOf(name), message);
  }
  return Object.assign(Object.create(null), given, Object.fromEntries(scaled));
}

function sumMb(entries: readonly (readonly [string, LaneConfig])[]): number {
  return entries.reduce((sum, [, lane]) => sum + lane.max_mb, 0);
}

/** The least that scaling can bring these lanes to: the smallest one at the floor. */
function leastMb(entries: readonly (readonly [string, LaneConfig])[]): number {
  const smallest = Math.min(...entries.map(([, lane]) => lane.max_mb));
  return entries.length === 0 ? 0 : (sumMb(entries) * SMALLEST_MB) / smallest;
}
