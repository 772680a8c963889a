/**
 * What a message from a device means for the runs of this commander: a pure function, so that every
 * hostile reply is a line in a test.
 *
 * A reply counts for a run when it names the run's id and comes from the run's device. The first
 * final reply is what the command came to; a device repeats it with the same content and never
 * sends another, so a final that differs is a contradiction: kept, counted, shown, never believed.
 */
import { isDeepStrictEqual } from "node:util";
import { isFinal } from "../../agent/protocol/reply.ts";
import { CONTRADICTIONS_KEPT, type Run, type SeenReply } from "./run.ts";

/** How long to wait before a busy device is asked again, whatever it says itself. */
const BUSY_BOUNDS_MS = { min: 100, max: 60_000, unsaid: 1_000 } as const;

export type Verdict =
  | { readonly kind: "progress" | "final" | "contradiction"; readonly run: Run }
  | { readonly kind: "busy"; readonly run: Run; readonly retryAfterMs: number }
  | { readonly kind: "ignored"; readonly reason: IgnoredReason; readonly run?: never };

/** `part`: a piece of a reply that came in several; they are not put together yet. */
export type IgnoredReason = "wrong_id" | "wrong_device" | "late" | "repeated" | "part";

export function judgeReply(run: Run, seen: SeenReply): Verdict {
  const { reply } = seen;
  if (reply.id !== run.id) return ignored("wrong_id");
  if (reply.device !== run.device) return ignored("wrong_device");
  if (reply.part && reply.part.of > 1) return ignored("part");
  if (isFinal(reply.status)) return judgeFinal(run, seen);
  if (run.final) return ignored("late");
  const changed = { ...run, latest: seen };
  return reply.status === "busy"
    ? { kind: "busy", run: changed, retryAfterMs: boundedRetryMs(reply.retryAfterMs) }
    : { kind: "progress", run: changed };
}

function judgeFinal(run: Run, seen: SeenReply): Verdict {
  if (!run.final) return { kind: "final", run: { ...run, final: seen } };
  if (isDeepStrictEqual(run.final.reply, seen.reply)) return ignored("repeated");
  const kept = run.contradictions.length < CONTRADICTIONS_KEPT;
  return {
    kind: "contradiction",
    run: {
      ...run,
      contradictions: kept ? [...run.contradictions, seen] : run.contradictions,
      contradictionCount: run.contradictionCount + 1,
    },
  };
}

function ignored(reason: IgnoredReason): Verdict {
  return { kind: "ignored", reason };
}

function boundedRetryMs(asked: number | undefined): number {
  const { min, max, unsaid } = BUSY_BOUNDS_MS;
  return Math.min(max, Math.max(min, asked ?? unsaid));
}
