/** Running schedules by their seeds, and telling what a failing one did. */
import { OutboxWorld, type Outcome } from "./outbox-world.ts";
import { type Plan, planOf } from "./plan.ts";
import { shrink } from "./shrink.ts";

export type Verdict =
  | { readonly ok: true; readonly outcome: Outcome }
  | { readonly ok: false; readonly error: Error };

export async function runPlan(plan: Plan, trace?: (line: string) => void): Promise<Verdict> {
  // A loop of the outbox or the forwarder that throws has nobody to tell it to.
  const unhandled: unknown[] = [];
  const note = (reason: unknown): void => {
    unhandled.push(reason);
  };
  process.on("unhandledRejection", note);
  try {
    const outcome = await new OutboxWorld(plan, trace).run();
    if (unhandled.length === 0) return { ok: true, outcome };
    return { ok: false, error: new Error("a loop threw", { cause: unhandled[0] }) };
  } catch (error) {
    const cause = unhandled[0] ?? error;
    return { ok: false, error: cause instanceof Error ? cause : new Error(String(cause)) };
  } finally {
    process.off("unhandledRejection", note);
  }
}

/** A failing schedule cut down to what matters, with its trace; for a person. */
export async function explain(seed: number): Promise<string> {
  const plan = await shrink(planOf(seed), async (shorter) => !(await runPlan(shorter)).ok);
  const lines: string[] = [];
  const verdict = await runPlan(plan, (line) => lines.push(line));
  const { steps, ...setup } = plan;
  return [
    `seed ${seed} breaks a promise: ${verdict.ok ? "but not again" : verdict.error.message}`,
    `cut down to ${steps.length} steps; ${JSON.stringify(setup)}`,
    ...lines.slice(-200),
    `replay: npm run sim -- --seed ${seed} --verbose`,
  ].join("\n");
}

/** The first of these seeds that fails; undefined when none does. Adds up what the others did. */
export async function runSeeds(
  from: number,
  count: number,
): Promise<{ failed: number | undefined; ran: number; sums: Record<keyof Outcome, number> }> {
  const sums = {
    ...{ accepted: 0, duplicates: 0, restarts: 0, closes: 0, refused: 0, dropped: 0 },
    ...{ reported: 0, parked: 0, replaced: 0, wronged: 0 },
  };
  for (let i = 0; i < count; i++) {
    const verdict = await runPlan(planOf(from + i));
    if (!verdict.ok) return { failed: from + i, ran: i + 1, sums };
    for (const [name, value] of Object.entries(verdict.outcome)) {
      sums[name as keyof Outcome] += value;
    }
  }
  return { failed: undefined, ran: count, sums };
}
