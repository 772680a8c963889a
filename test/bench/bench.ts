/**
 * `npm run bench`: ours beside the others, contenders in turn, medians over the rounds.
 *
 *   npm run bench -- [--only A,B] [--rounds N] [--json FILE] [--dir FOLDER] [--window N]
 *                   [--messages N] [--queued N] [--payloads random,json]
 *                   [--contenders holdfast,mosquitto]
 *
 * A, B, D: 100,000 messages accepted offline by 2,048 callers, then drained over one connection, in
 * the third outage of the process, and for comparison in the first one after its start. C:
 * 1,000 messages a second online. E: kill -9 and simulated power cut, 20 seeds each, counted. F, G:
 * 1,000,000 queued, with the V8 flags that ship. H: the local service beside others, 2,000 devices
 * connected: memory of a connection, P2P at 1,000 a second and as fast as it goes.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { rowsOfE } from "../support/row-e/run.ts";
import { tableOf } from "../support/row-e/table.ts";
import {
  type Contender,
  mosquitto,
  mqttJsLevel,
  mqttJsMemory,
  ours,
  oursBySocket,
  oursFresh,
} from "./contenders.ts";
import {
  type Million,
  million,
  type OfflineLife,
  offlineLife,
  type Steady,
  slowSyncRatio,
  steadyOnline,
} from "./jobs.ts";
import { median } from "./measure.ts";
import type { PayloadKind } from "./payloads.ts";
import { type ServiceLife, serviceLife } from "./service-jobs.ts";
import { aedesService, holdfastService, mosquittoService } from "./services.ts";
import { type Row, renderRows, renderTable, row } from "./table.ts";

const { values: flags } = parseArgs({
  options: {
    only: { type: "string", default: "A,B,C,D,E,F,G,H" },
    rounds: { type: "string", default: "5" },
    json: { type: "string" },
    dir: { type: "string", default: tmpdir() },
    window: { type: "string", default: "64" },
    messages: { type: "string", default: "100000" },
    queued: { type: "string", default: "1000000" },
    payloads: { type: "string", default: "random,json" },
    contenders: { type: "string", default: "holdfast,mosquitto,mqtt.js,aedes" },
  },
});
const only = new Set(flags.only.toUpperCase().split(","));
const rounds = Number(flags.rounds);
const count = Number(flags.messages);
const bench = { dir: flags.dir, window: Number(flags.window) };
const CALLERS = 2_048;
const SLOW_SYNC_MS = 10;
const STEADY_S = 10;
const FAULT_SEEDS = 20;

const wanted = (...names: string[]): boolean => names.some((name) => only.has(name));
const say = (text: string): void => void process.stdout.write(`${text}\n`);
const results: Record<string, unknown> = {};
const rows: Row[] = [];

describeMachine();
if (wanted("A", "B", "D")) await offlineJobs();
if (wanted("A")) await slowSyncJob();
if (wanted("C")) await steadyJob();
if (wanted("E")) await faultsJob();
if (wanted("F", "G")) await millionJob();
if (wanted("H")) await serviceJob();
say(`\n${renderRows(rows)}`);
if (flags.json !== undefined) {
  const at = new Date().toISOString();
  writeFileSync(flags.json, `${JSON.stringify({ at, rounds, rows, results }, null, 2)}\n`);
}

function describeMachine(): void {
  const [source, fstype] = execFileSync("findmnt", ["-nro", "SOURCE,FSTYPE", "-T", flags.dir])
    .toString()
    .trim()
    .split(" ");
  results["machine"] = {
    ...{ cpu: cpus()[0]?.model, cores: availableParallelism(), node: process.version },
    ...{ dir: flags.dir, source, fstype, loadBefore: loadavg()[0] },
  };
  say(
    `${availableParallelism()} cores (${cpus()[0]?.model}), Node ${process.version}, ` +
      `${flags.dir} on ${source} (${fstype}), load ${loadavg()[0]?.toFixed(2)}, ${rounds} rounds, window ${flags.window}`,
  );
  if (fstype === "tmpfs") say("a file system in memory writes no blocks: give --dir on a disk");
}

async function offlineJobs(): Promise<void> {
  for (const payloads of flags.payloads.split(",") as PayloadKind[]) {
    // The other clients cannot hold so many in any form: the second column is for the two that do.
    const contenders =
      payloads === "random"
        ? [ours, mosquitto, oursFresh, oursBySocket, mqttJsLevel, mqttJsMemory]
        : [ours, mosquitto];
    const order = { count, callers: CALLERS, payloads };
    const lives = await inTurn(contenders, (contender) => offlineLife(bench, contender, order));
    results[`offline ${payloads}`] = Object.fromEntries(lives);
    const columns = ["accepted/s", "µs CPU", "drained/s", "µs CPU", "flash/payload", "lost"];
    say(`\nA, B, D: ${count} messages of 256 B (${payloads}), medians`);
    say(
      renderTable(
        ["contender", ...columns, "repeated", "out of order"],
        [...lives].map(([name, all]) => [name, ...offlineFigures(all)]),
      ),
    );
    const mine = lives.get(ours.name) ?? [];
    const bridge = lives.get(mosquitto.name) ?? [];
    const column = payloads === "random" ? "" : ", JSON telemetry";
    if (wanted("A")) {
      ratioRow(
        `A: accepted, to the bridge${column}`,
        mine,
        bridge,
        "acceptedPerSecond",
        [1.5, 2.5],
      );
      const socket = lives.get(oursBySocket.name);
      if (socket) {
        const title = "A: the same through the producers' socket";
        ratioRow(title, socket, bridge, "acceptedPerSecond", undefined);
      }
    }
    if (wanted("B")) {
      ratioRow(`B: drained, to the bridge${column}`, mine, bridge, "drainedPerSecond", [1.2, 2]);
      const title = `B: CPU a message, to the bridge${column}`;
      ratioRow(title, mine, bridge, "drainCpuUs", [1, 0.4], "at most");
      const fresh = lives.get(oursFresh.name);
      if (fresh) {
        const first = "in the first outage after a start, to the bridge";
        ratioRow(`B: drained ${first}`, fresh, bridge, "drainedPerSecond", undefined);
        ratioRow(`B: CPU a message ${first}`, fresh, bridge, "drainCpuUs", undefined, "at most");
      }
    }
    if (wanted("D")) {
      const ratio = median(mine.map(({ writeRatio }) => writeRatio));
      const bound = payloads === "random" ? ([2.4, 2.0] as const) : ([2.4, 1.2] as const);
      rows.push(row(`D: flash bytes over payload${column}`, ratio, "at most", bound));
    }
  }
}

async function faultsJob(): Promise<void> {
  const faults = await rowsOfE(FAULT_SEEDS);
  results["faults"] = faults;
  say(`\n${tableOf(faults)}`);
}

function offlineFigures(lives: readonly OfflineLife[]): string[] {
  const of = (key: keyof OfflineLife): number => median(lives.map((life) => life[key]));
  return [
    of("acceptedPerSecond").toFixed(0),
    of("acceptCpuUs").toFixed(1),
    of("drainedPerSecond").toFixed(0),
    of("drainCpuUs").toFixed(1),
    of("writeRatio").toFixed(2),
    ...(["lost", "duplicates", "outOfOrder"] as const).map((key) => of(key).toFixed(0)),
  ];
}

function ratioRow(
  title: string,
  mine: readonly OfflineLife[],
  other: readonly OfflineLife[],
  key: keyof OfflineLife,
  bounds: readonly [number, number] | undefined,
  direction: "at least" | "at most" = "at least",
): void {
  if (mine.length === 0 || other.length === 0) return;
  const ratio = median(mine.map((life) => life[key])) / median(other.map((life) => life[key]));
  rows.push(row(title, ratio, direction, bounds));
}

async function slowSyncJob(): Promise<void> {
  const ratios: number[] = [];
  const order = { count, callers: CALLERS, payloads: "random" } as const;
  for (let i = 0; i < rounds; i++) ratios.push(await slowSyncRatio(bench, order, SLOW_SYNC_MS));
  results["slow sync"] = ratios;
  const title = `A: sync ${SLOW_SYNC_MS} ms slower, to one synced put a message`;
  rows.push(row(title, median(ratios), "at least", [40, 80]));
}

async function steadyJob(): Promise<void> {
  const all = await inTurn([ours, mqttJsMemory], (contender) =>
    steadyOnline(bench, contender, STEADY_S),
  );
  results["steady"] = Object.fromEntries(all);
  const figures = (runs: readonly Steady[]) => (key: keyof Steady) =>
    median(runs.map((run) => run[key]));
  say("\nC: 1,000 messages/s online, medians");
  const keys = ["cpuUs", "writtenBytes", "lost", "duplicates", "outOfOrder"] as const;
  const lines = [...all].map(([name, runs]) => [
    name,
    ...keys.map((key) => figures(runs)(key).toFixed(1)),
  ]);
  const head = ["contender", "µs CPU", "flash bytes", "lost", "repeated", "out of order"];
  say(renderTable(head, lines));
  const mine = figures(all.get(ours.name) ?? []);
  const other = figures(all.get(mqttJsMemory.name) ?? []);
  rows.push(row("C: flash bytes a message", mine("writtenBytes"), "at most", [16, 8]));
  const ratio = mine("cpuUs") / other("cpuUs");
  rows.push(row("C: CPU, to mqtt.js in memory", ratio, "at most", [1, undefined]));
}

async function millionJob(): Promise<void> {
  const queued = Number(flags.queued);
  const runs: Million[] = [];
  for (let i = 0; i < rounds; i++) {
    runs.push(await million(bench, queued));
    process.stderr.write(`million ${i + 1}: ${JSON.stringify(runs.at(-1))}\n`);
  }
  results["million"] = runs;
  const of = (key: keyof Million): number => median(runs.map((run) => run[key]));
  say(`\nF, G: ${queued} queued; idle ${of("idleMb").toFixed(1)} MB private, lost ${of("lost")}`);
  rows.push(row("F: MB with the backlog, over idle", of("queuedMb"), "at most", [40, undefined]));
  rows.push(row("F: MB at the peak of the drain", of("drainPeakMb"), "at most", [90, undefined]));
  rows.push(row("G: ms to the head after the deletes", of("headMs"), "at most", [2, undefined]));
  const percent = of("storePercent");
  rows.push(row("G: store 10 s after a drain, % of peak", percent, "at most", [5, undefined]));
}

async function serviceJob(): Promise<void> {
  const order = { devices: 2_000, seconds: 10, flood: 100_000 };
  // A persistent sender's P2P is on disk before its PUBACK: nobody else here keeps it so.
  const kept = { ...holdfastService, name: "holdfast cloud, kept on disk" };
  const services = [holdfastService, kept, aedesService, mosquittoService];
  const lives = await inTurn(services, (service) =>
    serviceLife(flags.dir, service, { ...order, kept: service === kept }),
  );
  results["service"] = Object.fromEntries(lives);
  say(`\nH: ${order.devices} devices, P2P at 1,000/s for ${order.seconds} s, medians`);
  const of = (name: string) => (key: keyof ServiceLife) =>
    median((lives.get(name) ?? []).map((life) => life[key]));
  const columns = ["KB/connection", "p50 ms", "p99 ms", "flooded: delivered/s"];
  say(
    renderTable(
      ["service", ...columns, "lost", "repeated"],
      [...lives.keys()].map((name) => {
        const figure = of(name);
        return [
          ...[name, figure("connectionKb").toFixed(1), figure("p50Ms").toFixed(2)],
          ...[figure("p99Ms").toFixed(1), figure("deliveredPerSecond").toFixed(0)],
          ...[figure("lost").toFixed(0), figure("repeated").toFixed(0)],
        ];
      }),
    ),
  );
  const [mine, other] = [of(holdfastService.name), of(aedesService.name)];
  const ratio = mine("connectionKb") / other("connectionKb");
  rows.push(row("H: memory of a connection, to aedes", ratio, "at most", [1.5, undefined]));
  const slow = mine("p99Ms") / other("p99Ms");
  rows.push(row("H: p99 of P2P, to aedes", slow, "at most", undefined));
  const fast = mine("deliveredPerSecond") / other("deliveredPerSecond");
  rows.push(row("H: P2P as fast as it goes, to aedes", fast, "at least", undefined));
}

/** All contenders in each round, so that what else the machine does falls on all of them. */
async function inTurn<C extends Pick<Contender, "name" | "missing">, T>(
  contenders: readonly C[],
  job: (contender: C) => Promise<T>,
): Promise<Map<string, T[]>> {
  const all = new Map<string, T[]>();
  const asked = flags.contenders.split(",");
  for (const contender of contenders) {
    if (!asked.some((name) => contender.name.includes(name))) continue;
    const why = contender.missing?.();
    if (why !== undefined) say(`left out: ${contender.name}: ${why}`);
    else all.set(contender.name, []);
  }
  for (let round = 0; round < rounds; round++) {
    for (const contender of contenders) {
      const results = all.get(contender.name);
      if (!results) continue;
      const result = await job(contender);
      process.stderr.write(`${contender.name} ${round + 1}: ${JSON.stringify(result)}\n`);
      results.push(result);
    }
  }
  return all;
}
