/** I1, I12: a fixed sample of the campaign `io-errors`. */
import { expect, it } from "vitest";
import { FaultRig, faultKinds, whyNoFaults } from "../support/io-faults/rig.ts";

const SAMPLE = 20;
const missing = whyNoFaults();
const reason = missing === undefined ? "" : ` (${missing})`;

it.skipIf(missing).each(faultKinds)(
  `%s: ${SAMPLE} operations that fail once cost nothing and need nobody${reason}`,
  async (kind) => {
    const rig = await FaultRig.make();
    try {
      const count = await rig.count(kind);
      expect(count).toBeGreaterThanOrEqual(SAMPLE);
      const wrong: string[] = [];
      for (let i = 0; i < SAMPLE; i++) {
        const n = 1 + Math.floor((i * count) / SAMPLE);
        const found = await rig.fail(kind, n);
        if (found !== undefined) wrong.push(`${kind} ${n}: ${found}`);
      }
      expect(wrong).toEqual([]);
      process.stdout.write(`${kind}: ${SAMPLE} of ${count} operations failed once, nothing lost\n`);
    } finally {
      await rig.remove();
    }
  },
);
