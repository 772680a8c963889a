/** Sending one command: recorded first, sent with the same bytes, ended by the first final reply. */
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { HoldfastError } from "../../../agent/core/errors.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { parseCommand } from "../../../agent/protocol/envelope.ts";
import { Slots, systemProcesses } from "../../../cloud/operator/operator.ts";
import { waitFor } from "../../support/wait-for.ts";
import { controller, DEVICE, listRuns, makeRig, never, request, runsOf, SLOT_1 } from "./rig.ts";

/** Far more fake time than any of these takes, however slow the disk is. */
const wait = { timeoutMs: 600_000 };

test("the final reply of the device ends the run and is on disk before it is acknowledged", async () => {
  const rig = await makeRig();
  rig.prepare = (link) => {
    link.onPublish = ({ id }) => link.reply({ id, result: { pong: true } });
  };
  const { run } = await rig.finish(rig.commander.send(request(), wait, never));

  expect(run.final?.reply).toMatchObject({ status: "succeeded", result: { pong: true } });
  expect(rig.links[0]?.accepted).toBe(1);
  expect(await listRuns(runsOf(rig))).toEqual([run]);
  expect(rig.links[0]?.state).toBe("stopped");
  expect(await readdir(join(rig.dir, "slots"))).toEqual([]);
});

test("what is published is a command that the device reads, from the slot's client id", async () => {
  const rig = await makeRig();
  rig.prepare = (link) => {
    link.onPublish = ({ id }) => link.reply({ id });
  };
  const params = { deep: [1, "ü"] };
  await rig.finish(rig.commander.send(request({ params, progress: true }), wait, never));
  const [published] = rig.links[0]?.published ?? [];
  expect(published?.topic).toBe(`GW_DOWN/p2p/${DEVICE}`);
  const parsed = parseCommand(Buffer.from(published?.text ?? ""), {
    ownClientId: DEVICE,
    profile: "lmq",
  });
  expect(parsed).toMatchObject({
    kind: "command",
    envelope: { from: SLOT_1, to: DEVICE, command: "system.ping", params, progress: true },
  });
});

test("the run is on disk before the first byte goes out", async () => {
  const rig = await makeRig();
  let seen: unknown;
  rig.prepare = (link) => {
    link.onPublish = async ({ id, text }) => {
      seen = await runsOf(rig).get(id);
      expect(seen).toMatchObject({ id, payload: text });
      expect(seen).not.toHaveProperty("sentAt");
      link.reply({ id });
    };
  };
  await rig.finish(rig.commander.send(request(), wait, never));
  expect(seen).toBeDefined();
});

test("when the run cannot be recorded nothing is sent", async () => {
  const rig = await makeRig();
  await writeFile(join(rig.dir, "runs"), "a file where the folder should be");
  await expect(rig.finish(rig.commander.send(request(), wait, never))).rejects.toMatchObject({
    code: "store_not_writable",
  });
  expect(rig.links.flatMap((link) => link.published)).toEqual([]);
});

test("an answer that cannot be recorded is not acknowledged, and the sender hears why", async () => {
  const rig = await makeRig();
  rig.prepare = (link) => {
    link.onPublish = async ({ id }) => {
      // A folder in the place of the draft stops the write for everybody, root included.
      await mkdir(join(rig.dir, "runs", `${id}.json.new`));
      link.reply({ id });
      await waitFor(() => link.inbound.length === 0);
    };
  };
  await expect(rig.finish(rig.commander.send(request(), wait, never))).rejects.toMatchObject({
    code: "store_not_writable",
  });
  expect(rig.links[0]?.accepted).toBe(0);
});

test("a connection that is lost at the publish brings the same bytes again", async () => {
  const rig = await makeRig();
  rig.prepare = (link) => {
    link.onPublish = ({ id }) => {
      if (link.published.length < 3) throw new HoldfastError("connection_lost");
      link.reply({ id });
    };
  };
  const { run } = await rig.finish(rig.commander.send(request(), wait, never));
  expect(run.final).toBeDefined();
  const texts = new Set(rig.links[0]?.published.map(({ text }) => text));
  expect(rig.links[0]?.published).toHaveLength(3);
  expect(texts.size).toBe(1);
});

test("a service that cuts every publish is named as the reason, and the run stays", async () => {
  const rig = await makeRig();
  rig.prepare = (link) => {
    link.onPublish = () => Promise.reject(new HoldfastError("connection_lost"));
  };
  await expect(rig.finish(rig.commander.send(request(), wait, never))).rejects.toMatchObject({
    code: "rejected_by_service",
  });
  expect(rig.links[0]?.published.length).toBeLessThan(5);
  expect(await listRuns(runsOf(rig))).toHaveLength(1);
});

test("a busy device gets the same bytes again after the time it asked for, not before", async () => {
  const rig = await makeRig();
  const times: number[] = [];
  rig.prepare = (link) => {
    link.onPublish = ({ id }) => {
      times.push(rig.clock.monotonicMs());
      if (times.length < 3) link.reply({ id, status: "busy", retryAfterMs: 5_000 });
      else link.reply({ id });
    };
  };
  const { run } = await rig.finish(rig.commander.send(request(), wait, never));
  expect(run.final?.reply.status).toBe("succeeded");
  expect(new Set(rig.links[0]?.published.map(({ text }) => text)).size).toBe(1);
  const gaps = times.slice(1).map((time, i) => time - (times[i] ?? 0));
  for (const gap of gaps) expect(gap).toBeGreaterThanOrEqual(5_000);
});

test.each([0, 1, Number.MAX_SAFE_INTEGER])(
  "busy for %d ms neither hammers nor hangs",
  async (ms) => {
    const rig = await makeRig();
    rig.prepare = (link) => {
      link.onPublish = ({ id }) => link.reply({ id, status: "busy", retryAfterMs: ms });
    };
    const { run } = await rig.finish(rig.commander.send(request(), { timeoutMs: 2_000 }, never));
    expect(run.final).toBeUndefined();
    expect(run.latest?.reply.status).toBe("busy");
    expect(rig.links[0]?.published.length).toBeLessThanOrEqual(21);
  },
);

test("a final reply ends the pause of a busy device at once", async () => {
  const rig = await makeRig();
  rig.prepare = (link) => {
    link.onPublish = ({ id }) => {
      link.reply({ id, status: "busy", retryAfterMs: 60_000 });
      link.reply({ id });
    };
  };
  const start = rig.clock.monotonicMs();
  await rig.finish(rig.commander.send(request(), { timeoutMs: 100_000 }, never));
  expect(rig.clock.monotonicMs() - start).toBeLessThan(60_000);
});

test("without a final reply in time the run stays open and is given back", async () => {
  const rig = await makeRig();
  const states: (string | undefined)[] = [];
  rig.prepare = (link) => {
    link.onPublish = ({ id }) => link.reply({ id, status: "running", progress: { done: 1 } });
  };
  const onChange = (run: { latest?: { reply: { status: string } } }): void => {
    states.push(run.latest?.reply.status);
  };
  const start = rig.clock.monotonicMs();
  const { run } = await rig.finish(
    rig.commander.send(request(), { timeoutMs: 3_000, onChange }, never),
  );
  expect(run.final).toBeUndefined();
  expect(run.sentAt).toBeDefined();
  expect(states).toContain("running");
  expect(rig.clock.monotonicMs() - start).toBeGreaterThanOrEqual(3_000);
});

test("without waiting it ends when the service has the command", async () => {
  const rig = await makeRig();
  const { run } = await rig.finish(rig.commander.send(request({ wait: false }), wait, never));
  expect(run.sentAt).toBeDefined();
  expect(run.final).toBeUndefined();
});

test("a service that refuses the credentials is said to, long before the time is over", async () => {
  const rig = await makeRig();
  rig.online = "refused";
  rig.prepare = (link) => {
    link.lastError = { code: "credentials_refused", message: "not authorized" };
  };
  const error = await rig
    .finish(rig.commander.send(request(), { timeoutMs: 3_600_000 }, never))
    .catch((caught: unknown) => caught);
  expect(error).toMatchObject({
    code: "credentials_refused",
    message: expect.stringContaining("not authorized"),
  });
  expect(await listRuns(runsOf(rig)), "nothing was sent, so nothing is open").toEqual([]);
});

test("a service that is not there is unreachable, with the reason", async () => {
  const rig = await makeRig();
  rig.online = "backing-off";
  rig.prepare = (link) => {
    link.lastError = { code: "connect_failed", message: "ECONNREFUSED" };
  };
  const error = await rig
    .finish(rig.commander.send(request(), { timeoutMs: 3_600_000 }, never))
    .catch((caught: unknown) => caught);
  expect(error).toMatchObject({
    code: "unreachable",
    message: expect.stringContaining("ECONNREFUSED"),
  });
});

test("a person who gives up gets the slot back and no error but that", async () => {
  const rig = await makeRig();
  const person = controller();
  const sending = rig.commander.send(request(), wait, person.signal);
  await waitFor(() => rig.links[0]?.published.length === 1);
  person.abort();
  const { run } = await rig.finish(sending);
  expect(run.final).toBeUndefined();
  expect(await readdir(join(rig.dir, "slots"))).toEqual([]);
});

test.each([
  [{ device: "a b" }, "client_id_invalid"],
  [{ device: "GID_demo@@@" }, "client_id_invalid"],
  [{ command: "ping" }, "envelope_invalid"],
  [{ command: "system.ping", params: { big: "x".repeat(50_000) } }, "payload_too_large"],
])("%j is refused before anything is connected", async (wrong, code) => {
  const rig = await makeRig();
  await expect(rig.finish(rig.commander.send(request(wrong), wait, never))).rejects.toMatchObject({
    code,
  });
  expect(rig.links).toEqual([]);
});

test("a device is named by its whole client id or by its part within our group", async () => {
  const { commander } = await makeRig();
  expect(commander.deviceId("gw-01")).toBe("GID_demo@@@gw-01");
  expect(commander.deviceId("GID_other@@@gw-01")).toBe("GID_other@@@gw-01");
});

test("a slot is held until the conversation is over", async () => {
  const rig = await makeRig();
  const slots = new Slots(
    { dir: join(rig.dir, "slots"), clientId: "GID_demo@@@console" },
    { clock: rig.clock, random: new SystemRandom(), processes: systemProcesses },
  );
  rig.prepare = (link) => {
    link.onPublish = async ({ id }) => {
      if (rig.links.length > 1) return;
      expect(await slots.tryTake(1)).toBeUndefined();
      link.reply({ id });
    };
  };
  const sent = await rig.finish(rig.commander.send(request(), wait, never));
  expect(sent.run.slot).toBe(1);
  await (await slots.tryTake(1))?.release();

  const open = await rig.finish(rig.commander.send(request({ wait: false }), wait, never));
  const waiting = rig.commander.wait(open.run.id, wait, never);
  await waitFor(() => rig.links[2]?.state === "online");
  expect(await slots.tryTake(1)).toBeUndefined();
  rig.links[2]?.reply({ id: open.run.id });
  await rig.finish(waiting);
});

test("several commanders on one machine send from client ids of their own", async () => {
  const rig = await makeRig();
  const sends = [1, 2, 3].map(() => rig.commander.send(request(), wait, never));
  await waitFor(() => rig.links.filter((link) => link.published.length === 1).length === 3);
  expect(new Set(rig.links.map((link) => link.clientId)).size).toBe(3);
  for (const link of rig.links) link.reply({ id: link.published[0]?.id ?? "" });
  const outcomes = await rig.finish(Promise.all(sends));
  expect(outcomes.every(({ run }) => run.final !== undefined)).toBe(true);
});
