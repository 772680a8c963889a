/** 10,000 schedules of the simulation; the quick tier runs 2,000. */
import { expectPromisesKept } from "../simulation/sample.ts";

expectPromisesKept({ from: 2_001, count: 9_950 });
// Fresh ones find what the fixed ones do not; a change must not fail for many of them that are not its.
expectPromisesKept({ from: 2_000_000_000 + Math.floor(Math.random() * 1e9), count: 50 });
