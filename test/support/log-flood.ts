/**
 * A program for the test of the log: writes more to its stderr than any pipe holds, then says on
 * stdout that it still lives and how many lines it had to drop.
 */
import { writeSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { SystemClock } from "../../agent/core/system-clock.ts";
import { Log } from "../../agent/log/log.ts";

const log = new Log({ level: "info" }, { stream: process.stderr, clock: new SystemClock() });
for (let i = 0; i < 20_000; i++) log.info("flood", { i, pad: "x".repeat(200) });
// A timer fires only when the event loop is free.
await pause(1);
writeSync(
  1,
  `${JSON.stringify({ dropped: log.dropped, heapBytes: process.memoryUsage().heapUsed })}\n`,
);
// The reader, if it comes back, now finds what waited and then the count.
for await (const _ of process.stdin) log.info("asked");
