import fc from "fast-check";
import { expect, test } from "vitest";
import { NumberRuns } from "../../../agent/outbox/number-runs.ts";

test("runs of numbers against a set", () => {
  const actions = fc.array(fc.oneof(fc.nat(40), fc.constant("first" as const)), { maxLength: 80 });
  fc.assert(
    fc.property(actions, (all) => {
      const runs = new NumberRuns();
      const plain = new Set<number>();
      for (const one of all) {
        if (one === "first") {
          const first = Math.min(...plain);
          if (plain.size > 0) runs.deleteFirst(first);
          plain.delete(first);
        } else {
          runs.add(one);
          plain.add(one);
        }
        const found = Array.from({ length: 42 }, (_, n) => n).filter((n) => runs.has(n));
        expect(found).toEqual([...plain].sort((a, b) => a - b));
        expect(runs.highest).toBe(found.at(-1));
      }
    }),
  );
});
