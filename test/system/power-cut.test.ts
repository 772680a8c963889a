/** I1, I2, I3 over real power cuts: a sample of `npm run campaign -- power-cuts`. */
import { expect, it } from "vitest";
import { outboxSubject } from "../support/power-rig/outbox-subject.ts";
import { PowerRig, whyNoPowerCuts } from "../support/power-rig/rig.ts";

const CUTS = 30;
const missing = whyNoPowerCuts();
const reason = missing === undefined ? "" : ` (${missing})`;

it.skipIf(missing)(
  `${CUTS} power cuts lose nothing and need nobody${reason}`,
  { timeout: 900_000 },
  async () => {
    using rig = new PowerRig(outboxSubject);
    const records = await rig.record(1);
    let accepted = 0;
    let cuts = 0;
    let most = 0;
    for await (const cut of rig.cuts(records, CUTS, 1)) {
      const { at, trouble, lost, outOfOrder, renamed, duplicates, allowed } = cut;
      const found = { trouble, lost, outOfOrder, renamed };
      expect(found, `cut at record ${at}`).toEqual({
        trouble: undefined,
        lost: 0,
        outOfOrder: 0,
        renamed: 0,
      });
      expect(duplicates, `duplicates after the cut at record ${at}`).toBeLessThanOrEqual(allowed);
      accepted += cut.accepted;
      most = Math.max(most, duplicates);
      cuts++;
    }
    expect(cuts).toBe(CUTS);
    expect(accepted).toBeGreaterThan(CUTS * 100);
    process.stdout.write(`${CUTS} power cuts: 0 of ${accepted} lost, at most ${most} duplicates\n`);
  },
);
