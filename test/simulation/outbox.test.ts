import { expectPromisesKept } from "./sample.ts";

// Half of the 2,000 of the quick tier; the other half is beside it, for the other core.
expectPromisesKept({ from: 1, count: 1_000 });
