/**
 * 100,000 logs of presence notices, or as many as are asked for: `-- [COUNT] [FIRST SEED]`. Each is
 * judged like a brute-force oracle judges it; a seed that fails replays by itself.
 */
import { runPresenceLog } from "../support/presence-logs.ts";

const count = Number(process.argv[2] ?? 100_000);
const first = Number(process.argv[3] ?? 1);
const sums = { events: 0, online: 0 };
let failures = 0;
for (let seed = first; seed < first + count; seed++) {
  try {
    const { events, online } = runPresenceLog(seed);
    sums.events += events;
    sums.online += online;
  } catch (error) {
    failures++;
    if (failures <= 10) {
      process.stdout.write(`FAILED ${error instanceof Error ? error.message : String(error)}\n`);
    }
  }
}
process.stdout.write(`${JSON.stringify(sums)}\n`);
process.stdout.write(`${count - failures} of ${count} logs judged like the oracle\n`);
process.exitCode = failures > 0 ? 1 : 0;
