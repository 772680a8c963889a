/**
 * Damaged packets against the local service with a real store: `-- [PACKETS] [SEED]`, 100,000 and a
 * random seed by default. A seed that failed sends the same bytes again.
 */
import { SystemRandom } from "../../agent/core/system-random.ts";
import { LocalCloud } from "../../cloud/cloud.ts";
import { fuzz, fuzzDeps, fuzzLimits, fuzzTimings, overTcp } from "../support/cloud-fuzz.ts";
import { heldMemory } from "../support/held-memory.ts";
import { makeTempDir } from "../support/temp-dir.ts";

const packets = Number(process.argv[2] ?? 100_000);
const random = new SystemRandom();
const seed = Number(process.argv[3] ?? Math.floor(random.float() * 1_000_000_000));
await using dir = await makeTempDir();
const cloud = new LocalCloud(
  {
    service: {
      listen: { host: "127.0.0.1", mqtt: { port: 0 } },
      directory: {
        accounts: new Map([["AK", "SK"]]),
        instanceId: "mqtt-local",
        groups: new Set(["GID_demo"]),
        topics: new Map([
          ["GW_UP", { ordered: false }],
          ["GW_DOWN", { ordered: false }],
        ]),
      },
      limits: fuzzLimits,
      timings: fuzzTimings,
    },
    dataDir: dir.path,
  },
  { ...fuzzDeps, random },
);
await cloud.start(new AbortController().signal);
const before = sockets();
process.stdout.write(`seed ${seed}\n`);
let toldAt = 0;
const report = await fuzz(
  {
    connect: overTcp(cloud.ready?.mqtt?.port ?? 0),
    stats: () => cloud.stats,
    usedBytes: heldMemory,
  },
  {
    seed,
    packets,
    progress: (sent) => {
      if (sent - toldAt < packets / 10) return;
      toldAt = sent;
      process.stdout.write(`${sent} packets, ${JSON.stringify(cloud.stats)}\n`);
    },
  },
);
const faults = [...report.faults];
if (report.grownBytes > 8_000_000) faults.push(`${report.grownBytes} bytes more than at a quarter`);
// Both ends of the one that behaves may still be closing.
if (sockets() > before + 2) faults.push(`${sockets() - before} sockets more than at the start`);
await cloud.stop(AbortSignal.abort());
for (const fault of faults) process.stdout.write(`FAILED seed ${seed}: ${fault}\n`);
const { connections, answers, served, grownBytes } = report;
process.stdout.write(
  `${report.packets} damaged packets, ${connections} connections, ${answers} answers, ` +
    `${served} messages served, ${grownBytes} bytes more: ${faults.length} faults\n`,
);
process.exitCode = faults.length > 0 ? 1 : 0;

function sockets(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === "TCPSocketWrap").length;
}
