import { expectPromisesKept } from "./sample.ts";

expectPromisesKept({ from: 1_001, count: 950 });
// Fresh ones find what the fixed ones do not.
expectPromisesKept({ from: 1_000_000 + Math.floor(Math.random() * 1e9), count: 50 });
