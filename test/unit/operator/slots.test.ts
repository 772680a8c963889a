/** Slots between real processes: they contend, they die with a lock in hand, others take over. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { SystemClock } from "../../../agent/core/system-clock.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { SLOT_COUNT, Slots, systemProcesses } from "../../../cloud/operator/operator.ts";
import { tempDir } from "../../support/temp-dir.ts";

const clientId = "GID_demo@@@console";
const holderPath = fileURLToPath(new URL("slot-holder.ts", import.meta.url));

test("two processes never hold the same slot, and a released one is free again", async () => {
  const dir = await tempDir();
  const [first, second] = await Promise.all([holder(dir), holder(dir)]);
  const numbers = await Promise.all([first.ask("take"), second.ask("take")]);
  expect(new Set(numbers)).toEqual(new Set(["1", "2"]));

  const [firstNumber] = numbers;
  expect(await second.ask(`try ${firstNumber}`)).toBe("none");
  await first.ask("release");
  expect(await second.ask(`try ${firstNumber}`)).toBe(firstNumber);
});

test("the slot of a process that was killed is taken by exactly one of those who find it", async () => {
  const dir = await tempDir();
  const dead = await holder(dir);
  expect(await dead.ask("take")).toBe("1");
  await dead.kill();

  const contenders = await Promise.all([holder(dir), holder(dir), holder(dir)]);
  const got = await Promise.all(contenders.map((one) => one.ask("try 1")));
  expect(got.filter((number) => number === "1")).toHaveLength(1);
});

test("many attempts at one dead lock in one process give one holder, round after round", async () => {
  const dir = await tempDir();
  for (let round = 0; round < 20; round++) {
    await leaveLock(dir, { pid: 2 ** 22 + 1 }); // Over the largest process id there can be.
    const attempts = await Promise.all(Array.from({ length: 8 }, () => slotsOf(dir).tryTake(1)));
    const holders = attempts.filter((slot) => slot !== undefined);
    expect(holders).toHaveLength(1);
    await holders[0]?.release();
    expect(await readdir(dir), "nothing is left behind").toEqual([]);
  }
});

test("a process id that was given to another process since does not keep a slot", async () => {
  const dir = await tempDir();
  await leaveLock(dir, { startedTicks: systemProcesses.self().startedTicks + 1 });
  expect(await slotsOf(dir).tryTake(1)).toBeDefined();
});

test("a lock from before a reboot does not keep a slot", async () => {
  const dir = await tempDir();
  await leaveLock(dir, { bootId: "another boot" });
  expect(await slotsOf(dir).tryTake(1)).toBeDefined();
});

test.each([
  ["of another machine on a shared folder", { host: "elsewhere", pid: 2 ** 22 + 1 }],
  ["of another container", { pidNamespace: "pid:[1]", pid: 2 ** 22 + 1 }],
])("a lock %s cannot be judged and is respected", async (_, identity) => {
  const dir = await tempDir();
  await leaveLock(dir, identity);
  expect(await slotsOf(dir).tryTake(1)).toBeUndefined();
  expect((await slotsOf(dir).take(AbortSignal.timeout(5_000))).number).toBe(2);
});

test.each([
  ["empty", ""],
  ["zeros", "\0\0\0\0"],
  ["cut", "{"],
  ["null", "null"],
  ["of other members", '{"pid":"1"}'],
  ["long", "x".repeat(100_000)],
])("a lock file that a power cut spoilt does not keep a slot: %s", async (_, text) => {
  const dir = await tempDir();
  const lockPath = await leaveLock(dir, {});
  await writeFile(lockPath, text);
  expect(await slotsOf(dir).tryTake(1)).toBeDefined();
});

test("a process that died while it replaced a dead lock does not block the slot", async () => {
  const dir = await tempDir();
  const lockPath = await leaveLock(dir, { pid: 2 ** 22 + 1 });
  const { nonce } = JSON.parse(await readFile(lockPath, "utf8"));
  await writeFile(`${lockPath}.${nonce}`, await readFile(lockPath));
  expect(await slotsOf(dir).tryTake(1)).toBeDefined();
});

test("a lock that somebody else holds by now is not removed by its former holder", async () => {
  const dir = await tempDir();
  const slot = await slotsOf(dir).tryTake(1);
  const lockPath = await leaveLock(dir, { host: "elsewhere", nonce: "Z".repeat(26) });
  await slot?.release();
  expect(await readFile(lockPath, "utf8")).toContain("elsewhere");
});

test("when all slots are taken, take waits, and says so when its time is over", async () => {
  const dir = await tempDir();
  const slots = slotsOf(dir);
  for (let i = 0; i < SLOT_COUNT; i++) await slots.take(AbortSignal.timeout(5_000));
  const error = await slots.take(AbortSignal.timeout(20)).catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code: "too_many", message: expect.stringContaining(dir) });
});

test("commanders with other client ids share a folder without sharing slots", async () => {
  const dir = await tempDir();
  expect((await slotsOf(dir, "GID_demo@@@a/b").tryTake(1))?.clientId).toBe("GID_demo@@@a/b-1");
  expect((await slotsOf(dir, "GID_demo@@@a_b").tryTake(1))?.clientId).toBe("GID_demo@@@a_b-1");
  expect(await slotsOf(dir, "GID_demo@@@a_b").tryTake(1)).toBeUndefined();
});

function slotsOf(dir: string, id = clientId): Slots {
  return new Slots(
    { dir, clientId: id },
    { clock: new SystemClock(), random: new SystemRandom(), processes: systemProcesses },
  );
}

/** The lock of slot 1 as some other process would have left it; gives its path. */
async function leaveLock(dir: string, identity: object): Promise<string> {
  const probe = await slotsOf(dir).tryTake(1);
  const name = (await readdir(dir)).find((file) => file.includes("console-1")) as string;
  const path = join(dir, name);
  const lock = JSON.parse(await readFile(path, "utf8"));
  await probe?.release();
  await writeFile(path, JSON.stringify({ ...lock, ...identity }));
  return path;
}

interface Holder {
  ask(line: string): Promise<string>;
  kill(): Promise<void>;
}

async function holder(dir: string): Promise<Holder> {
  const child = spawn(process.execPath, [holderPath, dir], { stdio: ["pipe", "pipe", "inherit"] });
  onTestFinished(() => ended(child));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<string> => (await lines.next()).value ?? "ended";
  expect(await line()).toBe("ready");
  return {
    ask: (text) => {
      child.stdin.write(`${text}\n`);
      return line();
    },
    kill: () => ended(child),
  };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await exited;
}
