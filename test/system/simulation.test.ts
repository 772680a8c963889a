/** 10,000 schedules of the simulation; the quick tier runs 2,000. */
import { expectPromisesKept } from "../simulation/sample.ts";

expectPromisesKept({ from: 2_001, count: 9_000 });
expectPromisesKept({ from: 2_000_000_000 + Math.floor(Math.random() * 1e9), count: 1_000 });
