/** What the local service acknowledged over real power cuts: a sample of `cloud-power-cuts`. */
import { expect, it } from "vitest";
import { cloudSubject } from "../support/power-rig/cloud-subject.ts";
import { PowerRig, whyNoPowerCuts } from "../support/power-rig/rig.ts";

const CUTS = 8;
const missing = whyNoPowerCuts();
const reason = missing === undefined ? "" : ` (${missing})`;

it.skipIf(missing)(
  `${CUTS} power cuts of the service: what it acknowledged stays, what was taken is gone${reason}`,
  { timeout: 600_000 },
  async () => {
    using rig = new PowerRig(cloudSubject);
    const records = await rig.record(1);
    const sum = { cuts: 0, owed: 0, repeated: 0 };
    for await (const { at, owed, repeated, ...found } of rig.cuts(records, CUTS, 1)) {
      expect(found, `cut at record ${at}`).toEqual({
        ...{ trouble: undefined, lost: 0, revived: 0, misdirected: 0, unsubscribed: 0 },
      });
      sum.cuts++;
      sum.owed += owed;
      sum.repeated += repeated;
    }
    expect(sum.cuts).toBe(CUTS);
    expect(sum.owed).toBeGreaterThan(CUTS * 100);
    process.stdout.write(`power cuts of the service: ${JSON.stringify(sum)}, 0 lost\n`);
  },
);
