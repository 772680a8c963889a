/**
 * What `npm run bench` counts, held here as bounds: syncs, bytes, and what arrives. Times are not
 * judged. The same process and the same sink as in the benchmark.
 */
import { expect, onTestFinished, test } from "vitest";
import { freePort, startOurs } from "../bench/contenders.ts";
import { Child } from "../bench/ipc.ts";
import { costOf, since } from "../bench/measure.ts";
import { PAYLOAD_BYTES } from "../bench/payloads.ts";
import type { SinkReport } from "../bench/sink.ts";
import { tempDir } from "../support/temp-dir.ts";
import { waitFor } from "../support/wait-for.ts";

interface Stats {
  readonly persisted: number;
  readonly elided: number;
  readonly waiting: number;
  readonly syncs: number;
  /** Keys and values that the database was given. */
  readonly givenBytes: number;
}

const QUIET_MS = 10_000;

async function rig(count: number) {
  const sink = await Child.start("./sink.ts", []);
  onTestFinished(() => sink.stop());
  const port = await freePort();
  const { child, pid } = await startOurs({ dir: await tempDir(), sinkPort: port, window: 64 });
  onTestFinished(() => child.stop());
  await sink.ask({ do: "reset", total: count });
  const stats = () => child.ask<Stats>({ do: "stats" });
  const arrived = () => sink.ask<SinkReport>({ do: "wait", messages: count, quietMs: QUIET_MS });
  const online = async () => {
    await sink.ask({ do: "listen", port });
    await child.ask({ do: "connect" });
  };
  return { child, pid, sink, stats, arrived, online };
}

test("A, B, D: 20,000 offline from 2,048 callers, drained: syncs, bytes, nothing lost", async () => {
  const count = 20_000;
  const { child, pid, stats, arrived, online } = await rig(count);
  const born = costOf(pid);
  const load = { callers: 2_048, payloads: "random" };
  await child.ask({ do: "accept", count, ...load });
  const accepted = await stats();
  expect(accepted).toMatchObject({ persisted: count, elided: 0, waiting: count });
  // Ten rounds of all callers; each may be cut in two, and the first comes alone.
  expect(accepted.syncs).toBeLessThanOrEqual(30);
  expect(accepted.givenBytes / count).toBeLessThanOrEqual(PAYLOAD_BYTES + 64);

  await online();
  expect(await arrived()).toMatchObject({ seen: count, duplicates: 0, outOfOrder: 0 });
  await waitFor(async () => (await stats()).waiting === 0, { what: "the last settlement" });
  await child.ask({ do: "settled" });
  const drained = await stats();
  expect(drained.syncs - accepted.syncs).toBeLessThanOrEqual(20);
  // Deletions and the ledger: a few bytes for each record of 32.
  expect((drained.givenBytes - accepted.givenBytes) / count).toBeLessThanOrEqual(8);
  // The log, the tables once, and whole pages; 0 on a file system in memory.
  const written = since(born, costOf(pid)).writtenBytes / count;
  expect(written).toBeLessThanOrEqual(2.6 * PAYLOAD_BYTES);
});

test("C: 1,000 a second online: next to nothing is written, nothing lost or repeated", async () => {
  const count = 3_000;
  const { child, sink, stats, arrived, online } = await rig(count);
  await online();
  const load = { payloads: "random", perSecond: 1_000 };
  await child.ask({ do: "steadily", count, ...load }); // The median of the acknowledgements is known.
  await arrived();
  await sink.ask({ do: "reset", total: count });
  const before = await stats();
  await child.ask({ do: "steadily", count, ...load });
  expect(await arrived()).toMatchObject({ seen: count, duplicates: 0, outOfOrder: 0 });
  const after = await stats();
  const elided = after.elided - before.elided;
  const persisted = after.persisted - before.persisted;
  // What is being written when its acknowledgement comes counts as both or neither.
  expect(elided + persisted).toBeGreaterThanOrEqual(count - 64);
  // How many are late is the machine's doing: with the clock of a test none is
  // (unit/outbox/elided.test.ts). What is written are the late ones and nothing beside them.
  const given = after.givenBytes - before.givenBytes;
  const perSync = 512; // Of the ledger, once a second and with each group of late ones.
  process.stdout.write(
    `${((100 * elided) / count).toFixed(1)} % never written; ${persisted} late ones, ` +
      `${after.syncs - before.syncs} syncs, ${(given / count).toFixed(1)} B a message\n`,
  );
  expect(given).toBeLessThanOrEqual(
    persisted * (PAYLOAD_BYTES + 128) + (after.syncs - before.syncs) * perSync,
  );
  expect(elided).toBeGreaterThan(0);
});
