/**
 * 2,000 devices at the local service, 1 message a second each, P2P to random ones: all delivered.
 *
 *   npm run campaign -- cloud-load [DEVICES] [SECONDS] [COMMANDS A SECOND]
 */
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { loadCloud } from "../support/fleet/load.ts";

const [devices = 2_000, seconds = 60, commandsPerSecond = 500] = process.argv.slice(2).map(Number);
const dir = await mkdtemp(join(tmpdir(), "holdfast-load-"));
try {
  const verdict = await loadCloud(dir, { devices, seconds, commandsPerSecond });
  const { up, down, ...counts } = verdict;
  process.stdout.write(`${JSON.stringify(counts)}\n`);
  for (const [name, { received, latencyMs }] of Object.entries({ up, P2P: down })) {
    const { p50, p99, max } = latencyMs;
    const figures = [p50, p99, max].map((ms) => ms.toFixed(1)).join(", ");
    process.stdout.write(`${name}: ${received} messages; p50, p99, longest ms: ${figures}\n`);
  }
  const percent = (100 * verdict.delivered) / verdict.sent;
  process.stdout.write(
    `${devices} devices for ${seconds} s on ${availableParallelism()} cores: ` +
      `${percent.toFixed(3)} % of ${verdict.sent} delivered\n`,
  );
  const { sent, acked, delivered, misdirected, lostConnections } = verdict;
  const bad = sent - acked + (sent - delivered) + misdirected + lostConnections;
  process.exitCode = bad === 0 ? 0 : 1;
} finally {
  await rm(dir, { recursive: true, force: true, maxRetries: 5 });
}
