/**
 * 1,000,000 messages put one after the other while offline, each a record of its own, in a process
 * with the V8 flags that ship: what they take in memory, after a restart too, and how they drain.
 *
 *   npm run campaign -- one-by-one [MESSAGES]
 *
 * Without syncs: they cost time only. Exit 1: over the bound, or something was lost.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { freePort, startOurs } from "../bench/contenders.ts";
import { Child } from "../bench/ipc.ts";
import { privateMb } from "../bench/measure.ts";
import type { SinkReport } from "../bench/sink.ts";

/** As for job F: queued, and the peak while draining, MB over the idle agent. */
const MOST_MB = { queued: 40, restarted: 40, draining: 90 };
const SAMPLE_MS = 50;

const count = Number(process.argv[2] ?? 1_000_000);
const dir = await mkdtemp(join(tmpdir(), "holdfast-one-by-one-"));
const sink = await Child.start("./sink.ts", []);
const sinkPort = await freePort();
const start = () =>
  startOurs({ dir, sinkPort, window: 64 }, { shipped: true, syncDelayMs: "none" });
const say = (line: string): void => void process.stdout.write(`${line}\n`);
try {
  const first = await start();
  await pause(1_000);
  const idleMb = privateMb(first.pid);
  const acceptMs = await first.accept({ count, callers: 1, payloads: "random" });
  await pause(2_000);
  const queued = privateMb(first.pid) - idleMb;
  say(`${count} put one after the other, ${Math.round((count * 1_000) / acceptMs)} a second`);
  await first.child.ask({ do: "stop" });
  await first.stop();

  const startedMs = performance.now();
  const { pid, connect, stop } = await start();
  const foundMs = performance.now() - startedMs;
  await pause(1_000);
  const restarted = privateMb(pid) - idleMb;
  say(`listed after a restart in ${foundMs.toFixed(0)} ms`);

  await sink.ask({ do: "reset", total: count });
  await sink.ask({ do: "listen", port: sinkPort });
  await connect();
  let draining = 0;
  const sampling = setInterval(() => {
    draining = Math.max(draining, privateMb(pid) - idleMb);
  }, SAMPLE_MS);
  const report = await sink.ask<SinkReport>({ do: "wait", messages: count, quietMs: 10_000 });
  clearInterval(sampling);
  await stop();
  say(`drained ${Math.round((report.seen * 1_000) / report.ms)} a second`);

  const found = { queued, restarted, draining };
  const over = (Object.keys(MOST_MB) as (keyof typeof MOST_MB)[]).filter((name) => {
    say(
      `${name.padEnd(10)} ${found[name].toFixed(1)} MB over the idle agent, at most ${MOST_MB[name]}`,
    );
    return !(found[name] <= MOST_MB[name]);
  });
  const lost = count - report.seen;
  say(`lost ${lost}, repeated ${report.duplicates}, out of order ${report.outOfOrder}`);
  const wrong = lost + report.duplicates + report.outOfOrder > 0 || over.length > 0;
  process.exitCode = wrong ? 1 : 0;
} finally {
  await sink.stop();
  await rm(dir, { recursive: true, force: true, maxRetries: 5 });
}
