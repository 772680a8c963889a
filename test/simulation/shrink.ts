import type { Plan } from "./plan.ts";

/** Runs of plans that one failure may cost. */
const TRIES = 400;

/** A shorter plan that fails too: leaves out halves, quarters, ... single steps, while it does. */
export async function shrink(plan: Plan, fails: (plan: Plan) => Promise<boolean>): Promise<Plan> {
  let steps = plan.steps;
  let tries = 0;
  for (let size = Math.ceil(steps.length / 2); size >= 1; size = size === 1 ? 0 : size >> 1) {
    for (let at = 0; at < steps.length && tries < TRIES; ) {
      const shorter = { ...plan, steps: steps.toSpliced(at, size) };
      tries++;
      if (await fails(shorter)) steps = shorter.steps;
      else at += size;
    }
  }
  return { ...plan, steps };
}
