/** The system plugin, run as the agent runs it: real values, bounds, caching, missing sensors. */
import { totalmem } from "node:os";
import { expect, onTestFinished, test } from "vitest";
import { SystemClock } from "../../../agent/core/system-clock.ts";
import type { Machine, Process } from "../../../plugins/system/machine.ts";
import { systemPlugin } from "../../../plugins/system/plugin.ts";
import { command, hosting, never } from "../host/support.ts";

const cores = { loadPercent: 12.34, cores: 4, loadAverage: [0.123, 1, 2] };
const memory = { totalBytes: 1_000, availableBytes: 250, swapTotalBytes: 0, swapUsedBytes: 0 };

function machine(parts: Partial<Machine> = {}): Machine {
  return {
    identity: async () => ({
      hostname: "gw",
      os: "Debian 12",
      kernel: "6.1",
      arch: "arm64",
      model: null,
      cpu: "ARM",
      cores: 4,
    }),
    cpu: async () => cores,
    memory: async () => memory,
    temperature: async () => 48.26,
    fileSystems: async () => [
      { mount: "/", type: "ext4", totalBytes: 100, availableBytes: 25, readOnly: false },
    ],
    processes: async () => ({ total: 0, running: 0, list: [] }),
    uptimeS: () => 61.4,
    ...parts,
  };
}

async function started(parts: Partial<Machine> = {}, config: object = {}) {
  const made = hosting([systemPlugin(machine(parts))], { configs: { system: config } });
  const abort = new AbortController();
  onTestFinished(() => abort.abort());
  await made.host.start(abort.signal);
  const send = (verb: string, params = {}) =>
    made.host.dispatch(command(`system.${verb}`, params), never);
  return { ...made, send, abort };
}

const processes = (count: number, name = "worker"): Process[] =>
  Array.from({ length: count }, (_, i) => ({
    pid: i + 1,
    name,
    user: "root",
    cpuPercent: i % 7,
    memPercent: 1,
    rssBytes: i * 1_000,
  }));

test("real values of this machine", async () => {
  const { host } = hosting([systemPlugin()], {}, { clock: new SystemClock() });
  await host.start(never);
  const send = async (verb: string) => {
    const outcome = await host.dispatch(command(`system.${verb}`), never);
    expect(Buffer.byteLength(JSON.stringify(outcome)), verb).toBeLessThan(4_096);
    expect(outcome).toMatchObject({ status: "succeeded" });
    return outcome.status === "succeeded" ? (outcome.result as Record<string, unknown>) : {};
  };
  expect(await send("ping")).toMatchObject({ pong: true });
  expect(await send("info")).toMatchObject({
    clientId: "GID@@@gw",
    agentVersion: "0.1.0",
    nonce: "n0nce",
    memBytes: expect.any(Number),
    machine: { hostname: expect.any(String), arch: process.arch, cores: expect.any(Number) },
  });
  const metrics = await send("metrics");
  expect(metrics).toMatchObject({
    cpu: { loadPercent: expect.any(Number), cores: expect.any(Number) },
    mem: { totalBytes: totalmem() },
    disk: { mount: "/", usedPercent: expect.any(Number) },
  });
  expect(metrics["tempC"] === null || typeof metrics["tempC"] === "number").toBe(true);
  expect(await send("disks")).toMatchObject({ list: expect.any(Array), truncated: 0 });
  // A machine without ps has no such list, and says so.
  const top = await host.dispatch(command("system.processes", { top: 3 }), never);
  if (top.status === "succeeded") expect(top.result).toMatchObject({ list: [{}, {}, {}] });
  else expect(top).toMatchObject({ error: { code: "not_available" } });
}, 60_000);

test("ping echoes", async () => {
  const { send, clock } = await started();
  expect(await send("ping")).toEqual({
    status: "succeeded",
    result: { pong: true, at: clock.wallMs() },
  });
  expect(await send("ping", { echo: "hi" })).toMatchObject({ result: { echo: "hi" } });
  expect(await send("ping", { echo: "x".repeat(1_025) })).toMatchObject({ status: "rejected" });
});

test("metrics are rounded and complete", async () => {
  const { send, clock } = await started();
  expect(await send("metrics")).toEqual({
    status: "succeeded",
    result: {
      at: clock.wallMs(),
      uptimeS: 61,
      cpu: { loadPercent: 12.3, cores: 4, loadAverage: [0.12, 1, 2] },
      mem: { ...memory, usedPercent: 75 },
      disk: { mount: "/", type: "ext4", totalBytes: 100, availableBytes: 25, usedPercent: 75 },
      tempC: 48.3,
    },
  });
});

test("without sensors and tools values are null, not errors", async () => {
  const fails = () => Promise.reject(new Error("not here"));
  const { send } = await started({
    cpu: fails,
    temperature: async () => null,
    memory: async () => ({ ...memory, totalBytes: 0, availableBytes: 0 }),
    fileSystems: async () => [],
    identity: fails,
  });
  expect(await send("metrics")).toMatchObject({
    status: "succeeded",
    result: { cpu: null, mem: { usedPercent: null }, disk: null, tempC: null },
  });
  expect(await send("info")).toMatchObject({ status: "succeeded", result: { machine: null } });
  expect(await send("processes")).toMatchObject({ error: { code: "not_available" } });
});

test("a reading that hangs is not begun again until it ends", async () => {
  const open: (() => void)[] = [];
  const fileSystems = () =>
    new Promise<[]>((resolve) => {
      open.push(() => resolve([]));
    });
  const { send, clock } = await started({ fileSystems });
  const ask = async () => {
    const answer = send("disks");
    await clock.advance(60_000);
    return answer;
  };
  for (let i = 0; i < 5; i++) {
    expect(await ask()).toMatchObject({ status: "failed", error: { code: "not_available" } });
  }
  expect(open.length).toBe(1);
  open[0]?.();
  await clock.advance(0);
  await ask();
  expect(open.length).toBe(2);
});

test("a sensor that hangs costs its value only", async () => {
  const { send, clock } = await started({ temperature: () => new Promise(() => undefined) });
  const outcome = send("metrics");
  await clock.advance(3_000);
  expect(await outcome).toMatchObject({
    status: "succeeded",
    result: { cpu: { cores: 4 }, tempC: null },
  });
});

test("hammering reads the machine once a second", async () => {
  let reads = 0;
  const { send, clock } = await started({
    cpu: async () => {
      reads++;
      return cores;
    },
  });
  await Promise.all(Array.from({ length: 500 }, () => send("metrics")));
  expect(reads).toBe(1);
  await clock.advance(1_000);
  await send("metrics");
  expect(reads).toBe(2);
});

test("a failed reading is not remembered", async () => {
  let broken = true;
  const { send } = await started({
    temperature: async () => {
      if (broken) throw new Error("busy bus");
      return 40;
    },
  });
  expect(await send("metrics")).toMatchObject({ result: { tempC: null } });
  broken = false;
  expect(await send("metrics")).toMatchObject({ result: { tempC: 40 } });
});

test("processes: the top ones by cpu or memory, within bounds", async () => {
  const list = processes(100);
  const { send } = await started({ processes: async () => ({ total: 100, running: 2, list }) });
  const byCpu = await send("processes");
  expect(byCpu).toMatchObject({ result: { total: 100, running: 2, by: "cpu", truncated: 0 } });
  expect(byCpu.status === "succeeded" && byCpu.result).toMatchObject({
    list: expect.objectContaining({ length: 10, 0: expect.objectContaining({ cpuPercent: 6 }) }),
  });
  expect(await send("processes", { by: "mem", top: 1 })).toMatchObject({
    result: { by: "mem", list: [{ pid: 100 }] },
  });
  for (const params of [{ top: 0 }, { top: 51 }, { top: 1.5 }, { by: "io" }, { topp: 1 }]) {
    expect(await send("processes", params)).toMatchObject({
      status: "rejected",
      error: { code: "params_invalid" },
    });
  }
});

test("lists that would not fit a reply are cut and say by how much", async () => {
  const list = processes(60, "\u0001".repeat(500));
  const mounts = Array.from({ length: 80 }, (_, i) => ({
    mount: `/mnt/${i}/${"ü".repeat(300)}`,
    type: "nfs",
    totalBytes: 1,
    availableBytes: 1,
    readOnly: true,
  }));
  const { send } = await started({
    processes: async () => ({ total: 60, running: 1, list }),
    fileSystems: async () => mounts,
  });
  for (const [verb, params] of [
    ["processes", { top: 50 }],
    ["disks", {}],
  ] as const) {
    const outcome = await send(verb, params);
    expect(Buffer.byteLength(JSON.stringify(outcome)), verb).toBeLessThan(3_600);
    if (outcome.status !== "succeeded") throw new Error("it succeeds");
    const { list: kept, truncated } = outcome.result as { list: []; truncated: number };
    expect(kept.length).toBeGreaterThan(0);
    expect(kept.length + truncated).toBe(verb === "disks" ? 80 : 50);
  }
});

test("publishes metrics as telemetry where it is told to, until it is stopped", async () => {
  const { outgoing, clock, host } = await started({}, { publish_every_s: 10 });
  await clock.advance(30_000);
  expect(outgoing.messages.map(({ topic, lane }) => [topic, lane])).toEqual(
    new Array(3).fill(["GW_UP/metrics", "telemetry"]),
  );
  expect(JSON.parse(Buffer.from(outgoing.messages[0]?.payload ?? []).toString())).toMatchObject({
    device: "GID@@@gw",
    cpu: { cores: 4 },
  });
  outgoing.refuse = new Error("full");
  await clock.advance(20_000);
  outgoing.refuse = undefined;
  await clock.advance(10_000);
  expect(outgoing.messages.length).toBe(4);
  await host.stop(never);
  await clock.advance(60_000);
  expect(outgoing.messages.length).toBe(4);
  expect(clock.sleeping).toBe(0);
});

test("a wrong configuration names the key", async () => {
  const { host } = await started({}, { publish_every_s: "often" });
  expect(host.list()[0]).toMatchObject({
    state: "failed",
    reason: expect.stringContaining("publish_every_s"),
  });
});
