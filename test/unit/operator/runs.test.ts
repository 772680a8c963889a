/** Runs outlive their process: what was left open is found, collected and sent again, never twice. */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ulid } from "../../../agent/core/random.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import {
  type Run,
  RunStore,
  runState,
  Slots,
  systemProcesses,
} from "../../../cloud/operator/operator.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";
import {
  controller,
  DEVICE,
  LIFETIME_MS,
  listRuns,
  makeRig,
  never,
  request,
  runsOf,
} from "./rig.ts";

/** Far more fake time than any of these takes, however slow the disk is. */
const wait = { timeoutMs: 600_000 };

test("an answer that comes after the process ended is collected by wait", async () => {
  const rig = await makeRig();
  const sent = await rig.finish(rig.commander.send(request({ wait: false }), wait, never));
  rig.prepare = (link) => link.reply({ id: sent.run.id, result: "late" });
  const { run } = await rig.finish(rig.commander.wait(sent.run.id, wait, never));
  expect(run.final?.reply.result).toBe("late");
  expect(rig.links[1]?.clientId).toBe(rig.links[0]?.clientId);
  expect(rig.links[1]?.published, "waiting sends nothing").toEqual([]);
});

test("any call in a slot collects the answers of earlier runs that wait there", async () => {
  const rig = await makeRig();
  const first = await rig.finish(rig.commander.send(request({ wait: false }), wait, never));
  rig.prepare = (link) => {
    link.reply({ id: first.run.id, result: "earlier" });
    link.onPublish = ({ id }) => link.reply({ id });
  };
  const second = await rig.finish(rig.commander.send(request(), wait, never));
  expect(second.collected).toBe(1);
  expect((await runsOf(rig).get(first.run.id))?.final?.reply.result).toBe("earlier");
});

test("a run whose slot another process holds is read from its file when that one has the answer", async () => {
  const rig = await makeRig();
  const { run } = await rig.finish(rig.commander.send(request({ wait: false }), wait, never));
  const slots = new Slots(
    { dir: join(rig.dir, "slots"), clientId: "GID_demo@@@console" },
    { clock: rig.clock, random: new SystemRandom(), processes: systemProcesses },
  );
  await using held = await slots.take(never);
  expect(held.number).toBe(run.slot);
  const waiting = rig.commander.wait(run.id, wait, never);
  const final = { at: 1, text: reply(run.id), reply: JSON.parse(reply(run.id)) };
  await runsOf(rig).update(run.id, (open) => ({ run: { ...open, final } }));
  expect((await rig.finish(waiting)).run.final?.text).toBe(reply(run.id));
  expect(rig.links).toHaveLength(1);
});

test("a process that dies between record and publish leaves a run that resume sends with the same bytes", async () => {
  const rig = await makeRig();
  const person = controller();
  rig.prepare = (link) => {
    link.onPublish = () => new Promise(() => undefined); // Dead from here on.
  };
  const sending = rig.commander.send(request(), wait, person.signal);
  sending.catch(() => undefined);
  await waitFor(() => rig.links[0]?.published.length === 1);
  const [left] = await listRuns(runsOf(rig));
  expect(left && runState(left, rig.clock.wallMs())).toBe("recorded");

  // Another process: its own locks would be free, those of the dead one are stale.
  const other = await makeRig();
  await mkdir(join(other.dir, "runs"));
  const name = `${left?.id}.json`;
  await writeFile(join(other.dir, "runs", name), await readFile(join(rig.dir, "runs", name)));
  other.prepare = (link) => {
    link.onPublish = ({ id }) => link.reply({ id });
  };
  const { run } = await other.finish(other.commander.resume(left?.id ?? "", wait, never));
  expect(run.final?.reply.status).toBe("succeeded");
  expect(other.links[0]?.published).toEqual(rig.links[0]?.published);
});

test("resume neither repeats what has ended nor what the device would refuse", async () => {
  const rig = await makeRig();
  rig.prepare = (link) => {
    link.onPublish = ({ id }) => link.reply({ id });
  };
  const ended = await rig.finish(rig.commander.send(request(), wait, never));
  await rig.finish(rig.commander.resume(ended.run.id, wait, never));
  expect(rig.links).toHaveLength(1);

  rig.prepare = () => undefined;
  const open = await rig.finish(rig.commander.send(request({ wait: false }), wait, never));
  rig.clock.jumpWall(LIFETIME_MS + 1);
  await expect(rig.finish(rig.commander.resume(open.run.id, wait, never))).rejects.toMatchObject({
    code: "command_expired",
  });
  expect(rig.links).toHaveLength(2);
});

test("an unknown run, and one that another client id sent, are refused with the reason", async () => {
  const rig = await makeRig();
  await expect(rig.commander.wait("01ARZ3NDEKTSV4RRFFQ69G5FAV", wait, never)).rejects.toMatchObject(
    { code: "not_found" },
  );
  const foreign = run({ from: "GID_demo@@@other-1" });
  await runsOf(rig).create(foreign);
  await expect(rig.commander.wait(foreign.id, wait, never)).rejects.toMatchObject({
    code: "config_invalid",
    message: expect.stringContaining("GID_demo@@@other-1"),
  });
});

test("a run comes back from disk as it was, with its answers", async () => {
  const { store } = await makeStore();
  const full = run({
    sentAt: 5,
    latest: seen("running"),
    final: seen("succeeded"),
    contradictions: [seen("failed")],
    contradictionCount: 7,
  });
  await store.create(full);
  expect(await store.get(full.id)).toEqual(full);
});

test.each([
  ["empty", ""],
  ["cut", '{"v":1,"id":"01'],
  ["a list", "[]"],
  ["other members", '{"v":1}'],
])("a file that is %s costs itself only", async (_, text) => {
  const { store, dir } = await makeStore();
  const good = run({});
  await store.create(good);
  const bad = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
  await writeFile(join(dir, `${bad}.json`), text);
  const damaged: string[] = [];
  const listed = await Array.fromAsync(store.list((error) => damaged.push(error.code)));
  expect(listed).toEqual([good]);
  expect(damaged).toEqual(["store_damaged"]);
  await expect(store.get(bad)).rejects.toMatchObject({ code: "store_damaged" });
});

test("the file of a later release is left alone and named as such", async () => {
  const { store, dir } = await makeStore();
  const id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, `${id}.json`), '{"v":2}');
  await expect(store.get(id)).rejects.toMatchObject({ code: "store_newer_format" });
});

test("a draft that a crash left is neither listed nor in the way", async () => {
  const { store, dir } = await makeStore();
  const one = run({});
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, `${one.id}.json.new`), "half");
  expect(await listRuns(store)).toEqual([]);
  await store.create(one);
  expect(await readdir(dir)).toEqual([`${one.id}.json`]);
});

test.each(["..", "../runs", "", "01ARZ3NDEKTSV4RRFFQ69G5FAV/../x", "x".repeat(300)])(
  "%j is no name of a run",
  async (id) => {
    const { store } = await makeStore();
    expect(await store.get(id)).toBeUndefined();
  },
);

test("updates of one run by answers and by the sender do not undo one another", async () => {
  const { store } = await makeStore();
  const one = run({});
  await store.create(one);
  await Promise.all([
    store.update(one.id, (r) => ({ run: { ...r, sentAt: 1 } })),
    store.update(one.id, (r) => ({ run: { ...r, latest: seen("running") } })),
    store.update(one.id, (r) => ({ run: { ...r, final: seen("succeeded") } })),
  ]);
  expect(await store.get(one.id)).toMatchObject({
    sentAt: 1,
    latest: { at: 1 },
    final: { at: 1 },
  });
});

test("the folder is bounded by count: ended runs go first, open ones only at twice the bound", async () => {
  const { store, clock, dir } = await makeStore({ maxRuns: 10 });
  for (let i = 0; i < 30; i++) {
    clock.jumpWall(1);
    const createdAt = clock.wallMs();
    const open = i < 3;
    await store.create(
      run({
        id: ulid(createdAt, new SystemRandom()),
        createdAt,
        expiresAt: createdAt + 60_000,
        ...(open ? {} : { final: seen("succeeded") }),
      }),
    );
  }
  const left = await listRuns(store);
  expect(left).toHaveLength(10);
  expect(left.filter((r) => !r.final)).toHaveLength(3);
  for (let i = 0; i < 30; i++) {
    clock.jumpWall(1);
    const createdAt = clock.wallMs();
    await store.create(
      run({ id: ulid(createdAt, new SystemRandom()), createdAt, expiresAt: createdAt + 60_000 }),
    );
  }
  expect((await readdir(dir)).length).toBeLessThanOrEqual(20);
});

test("the folder is bounded by age, whatever its count", async () => {
  const { store, clock, dir } = await makeStore({ maxAgeMs: 1_000 });
  const at = (): string => ulid(clock.wallMs(), new SystemRandom());
  const damaged = `${at()}.json`;
  clock.jumpWall(1);
  for (let i = 0; i < 5; i++) {
    await store.create(run({ id: at(), createdAt: clock.wallMs(), final: seen("succeeded") }));
  }
  await writeFile(join(dir, damaged), "not a run");
  clock.jumpWall(2_000);
  const last = run({ id: at(), createdAt: clock.wallMs() });
  await store.create(last);
  expect((await readdir(dir)).sort()).toEqual([damaged, `${last.id}.json`]);
});

async function makeStore(options: { maxRuns?: number; maxAgeMs?: number } = {}) {
  const dir = join(await tempDir(), "runs");
  const clock = new FakeClock();
  return { store: new RunStore({ dir, ...options }, { clock }), clock, dir };
}

function run(extra: Partial<Run>): Run {
  const createdAt = Date.UTC(2026, 0, 1);
  return {
    id: ulid(createdAt, new SystemRandom()),
    device: DEVICE,
    command: "system.ping",
    slot: 1,
    from: "GID_demo@@@console-1",
    topic: `GW_DOWN/p2p/${DEVICE}`,
    payload: '{"v":1}',
    createdAt,
    expiresAt: createdAt + 60_000,
    contradictions: [],
    contradictionCount: 0,
    ...extra,
  };
}

function reply(id: string, status = "succeeded"): string {
  const final = status !== "running";
  return JSON.stringify({ v: 1, id, device: DEVICE, at: 1, status, final });
}

function seen(status: "running" | "succeeded" | "failed") {
  const text = reply("01ARZ3NDEKTSV4RRFFQ69G5FAV", status);
  const { id, device, at } = JSON.parse(text);
  return { at: 1, text, reply: { id, device, at, status } };
}
