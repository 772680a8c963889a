import { fileURLToPath } from "node:url";
import type { Subject } from "./rig.ts";
import { judge, saidIn, type Verdict } from "./verdict.ts";

/** The agent's outbox: I1, I2 and I3 over a cut. */
export const outboxSubject: Subject<Verdict> = {
  program: fileURLToPath(new URL("./outbox-child.ts", import.meta.url)),
  judge: (before, after) => {
    const received = after
      .map((line) => line.split(" "))
      .filter(([word, number]) => word === "received" && number !== "0")
      .map(([, number, id = "", topic = ""]) => ({ number: Number(number), id, topic }));
    return judge(saidIn(before), received);
  },
  trouble: (told) => {
    const { state, damaged, writable, salvage, dropped } = JSON.parse(told);
    const lossless = (dropped as object[]).every((reasons) => Object.keys(reasons).length === 0);
    const fine =
      state === "open" && damaged === 0 && writable !== undefined && !salvage && lossless;
    return fine ? undefined : told;
  },
};
