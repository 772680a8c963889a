/** I6, I12 on real file systems: ext4 on a loop device that fills up, and one mounted read-only. */
import { execFileSync } from "node:child_process";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { silentLog } from "../../agent/core/log.ts";
import { SystemRandom } from "../../agent/core/system-random.ts";
import { countMissing } from "../../agent/outbox/outbox.ts";
import { DatabaseStore, openLevel } from "../../agent/store/store.ts";
import { AgentProcess } from "../support/agent-process.ts";
import { fillUp, smallDisk, whyNoSmallDisk } from "../support/small-disk.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { waitFor } from "../support/wait-for.ts";
import { codeOf, lane, never, startRig } from "../unit/outbox/rig.ts";

const MB = 1_048_576;
const missing = whyNoSmallDisk();
const reason = missing === undefined ? "" : ` (${missing})`;
const random = new SystemRandom();

it.skipIf(missing)(`a full disk never stops the drain, and heals by itself${reason}`, async () => {
  const disk = await smallDisk(48);
  const store = new DatabaseStore(
    {
      dir: join(disk, "state"),
      ballastBytes: 2 * MB,
      space: { quotaBytes: 320 * MB, keepFreeBytes: 0, keepFreeInodes: 0 },
    },
    { openDatabase: openLevel, random, log: silentLog, countMissing },
  );
  await store.start();
  const { outbox, clock, statsOf } = await startRig({ lanes: { telemetry: lane() }, store });
  const puts = (count: number) =>
    Promise.all(
      Array.from({ length: count }, () =>
        codeOf(outbox.put({ topic: "t", payload: random.bytes(2_000), lane: "telemetry" })),
      ),
    );
  expect(new Set(await puts(2_000))).toEqual(new Set(["accepted"]));
  await fillUp(join(disk, "others"));
  let refused = 0;
  for (let i = 0; i < 400 && refused < 50; i++) {
    refused += (await puts(20)).filter((code) => code === "store_not_writable").length;
    await clock.advance(1_000);
  }
  expect(refused).toBeGreaterThanOrEqual(50);

  const accepted = statsOf().messages;
  outbox.setOnline(true);
  let drained = 0;
  while (statsOf().messages > 0) {
    const batch = await outbox.take({ messages: 500, bytes: 1e9 }, never);
    outbox.settle(batch.ids);
    drained += batch.count;
    await clock.advance(1_500);
  }
  expect(drained).toBe(accepted);
  // With the drain the database itself makes room, although the others still take all they can.
  await waitFor(async () => {
    await clock.advance(1_500);
    return store.state === "open";
  });
  await store.compact("outbox");
  expect(await store.size()).toBeLessThan(MB / 2);

  await rm(join(disk, "others"));
  outbox.setOnline(false);
  await store.look();
  await waitFor(async () => {
    await clock.advance(1_000);
    return (await puts(1))[0] === "accepted";
  });
  await store.secure();
  expect(await readdir(join(disk, "state"))).toContain("ballast");
  await outbox.stop(never);
  await store.stop();
});

it.skipIf(missing)(`a start on a full disk gets along${reason}`, async () => {
  const disk = await smallDisk(48);
  const dir = join(disk, "state");
  const make = () =>
    new DatabaseStore(
      {
        dir,
        ballastBytes: 2 * MB,
        space: { quotaBytes: 320 * MB, keepFreeBytes: 0, keepFreeInodes: 0 },
      },
      { openDatabase: openLevel, random, log: silentLog, countMissing },
    );
  const first = make();
  await first.start();
  await first.stop();
  await fillUp(join(disk, "others"));
  const second = make();
  await second.start();
  expect(second.state).toBe("open");
  expect(second.salvage).toBeUndefined();
  await second.commit([], { sync: true });
  await second.stop();
});

it.skipIf(missing)(`a read-only file system is told, and healed from${reason}`, async () => {
  const disk = await smallDisk(48);
  const elsewhere = await makeTempDir();
  onTestFinished(elsewhere.remove);
  const toml = `[device]
client_id = "GID_demo@@@gw-01"
[service]
endpoints = ["mqtt://127.0.0.1:1"]
[auth]
access_key = "AK"
secret = "s"
[control]
dir = "${join(elsewhere.path, "state")}"
`;
  await mkdir(join(elsewhere.path, "state"));
  const agent = await AgentProcess.prepare(elsewhere.path, toml);
  // The state is on the small disk, the sockets are not.
  const config = join(elsewhere.path, "agent.toml");
  await writeFile(config, `${toml}\n[state]\ndir = "${join(disk, "state")}"\nkeep_free_mb = 0\n`, {
    mode: 0o600,
  });
  await agent.start();
  expect((await agent.batch([{ topic: "t", payload: "kept" }])).accepted).toBe(1);
  expect(await agent.stop()).toBe(0);

  execFileSync("mount", ["-o", "remount,ro", disk]);
  await agent.start();
  const status = await agent.status();
  expect(status.store.state).toBe("read-only");
  expect((await agent.batch([{ topic: "t", payload: "no" }])).accepted).toBe(0);
  await waitFor(async () =>
    (await agent.status()).health.alarms.some(({ alarm }) => alarm === "store.not_writable"),
  );
  execFileSync("mount", ["-o", "remount,rw", disk]);
  await waitFor(async () => (await agent.status()).store.state === "open");
  const { outbox } = await agent.status();
  expect(outbox.lanes["telemetry"]?.messages).toBe(1);
  expect(await agent.stop()).toBe(0);
});
