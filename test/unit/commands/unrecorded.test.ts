/** While the disk takes no writes, commands that only read are answered from memory. */
import { describe, expect, test } from "vitest";
import { HoldfastError } from "../../../agent/core/errors.ts";
import { FakeDispatcher, keysOf, Rig, type RigParts } from "./rig.ts";

const readsOnly = (command: string) => command === "system.ping";

/** Online, on a disk that takes no writes. */
async function startRig(parts: RigParts = {}): Promise<Rig> {
  const rig = await Rig.started({ ...parts, options: { readsOnly, ...parts.options } });
  rig.outbox.online = true;
  rig.store.failCommits(Number.POSITIVE_INFINITY);
  return rig;
}

function answering(): FakeDispatcher {
  const dispatcher = new FakeDispatcher();
  let count = 0;
  dispatcher.answer = () => ({ status: "succeeded", result: ++count });
  return dispatcher;
}

describe("a disk that takes no writes", () => {
  test("a command that only reads is run and answered, and leaves nothing on disk", async () => {
    const rig = await startRig({ dispatcher: answering() });
    const bytes = await rig.send();
    expect(rig.inbound.accepted).toEqual([bytes]);
    expect(rig.replies).toMatchObject([
      {
        id: "c1",
        status: "succeeded",
        result: 1,
        topic: "GW_DOWN/p2p/GID_demo@@@console-1",
      },
    ]);
    expect(await keysOf(rig.store, "journal")).toEqual([]);
    expect(rig.outbox.reserved).toBe(0);
    expect(rig.commands.stats()).toMatchObject({ queued: 0, running: 0, rejected: 0 });
    expect(rig.count("ran_unrecorded")).toBe(1);
  });

  test("any other is acknowledged and told to come again, and does not run", async () => {
    const rig = await startRig({ dispatcher: answering() });
    await rig.send({ command: "other.set" });
    expect(rig.inbound.accepted).toHaveLength(1);
    expect(rig.replies).toMatchObject([
      { id: "c1", status: "busy", error: { code: "storage_unavailable" } },
    ]);
    expect(rig.replies[0]?.retryAfterMs).toBeGreaterThanOrEqual(1_000);
    expect(rig.dispatcher.begun).toEqual([]);
  });

  test("its policy is that of all commands", async () => {
    const rig = await startRig({
      dispatcher: answering(),
      options: { allowUnsigned: ["other.*"] },
    });
    await rig.send();
    const late = { issuedAt: rig.clock.wallMs() - 2, expiresAt: rig.clock.wallMs() - 1 };
    await rig.send({ id: "c2", command: "other.x", ...late });
    expect(rig.statuses).toEqual(["c1 rejected", "c2 expired"]);
    expect(rig.dispatcher.begun).toEqual([]);
  });

  test("a repetition gets the same bytes, also once the disk is well; other bytes get nothing", async () => {
    const rig = await startRig({ dispatcher: answering() });
    const bytes = await rig.send();
    await rig.clock.advance(5_000);
    await rig.send(bytes);
    rig.store.failCommits(0);
    await rig.send(bytes);
    await rig.send({ params: { other: true } });
    expect(rig.outbox.sent.map(({ text }) => text)).toEqual(
      Array(3).fill(rig.outbox.sent[0]?.text),
    );
    expect(rig.dispatcher.begun).toHaveLength(1);
    expect([rig.count("repeated"), rig.count("id_conflict")]).toEqual([2, 1]);
    await rig.send({ id: "c2" });
    expect(await keysOf(rig.store, "journal")).toHaveLength(1);
  });

  test("a repetition while it runs starts nothing, and hears so where it asked", async () => {
    const rig = await startRig();
    const bytes = await rig.send({ progress: true });
    await rig.send(bytes);
    expect(rig.statuses).toEqual(["c1 running", "c1 running"]);
    rig.dispatcher.end("c1");
    await rig.settle();
    expect(rig.statuses).toEqual(["c1 running", "c1 running", "c1 succeeded"]);
    expect(rig.dispatcher.begun).toHaveLength(1);
  });

  test("a journal that cannot be read keeps no such command from being answered", async () => {
    const rig = await startRig({ dispatcher: answering() });
    rig.store.failCommits(0);
    rig.store.afterRead = () => Promise.reject(new HoldfastError("store_unreadable"));
    await rig.send();
    await rig.send({ id: "c2", command: "other.set" });
    expect(rig.statuses).toEqual(["c1 succeeded", "c2 busy"]);
    // What may be recorded already is not recorded again.
    expect(await keysOf(rig.store, "journal")).toEqual([]);
  });

  test("offline nothing is lost but the reply, which a repetition gets", async () => {
    const rig = await startRig({ dispatcher: answering() });
    rig.outbox.online = false;
    const bytes = await rig.send();
    expect([rig.count("reply_failed"), rig.replies.length]).toEqual([1, 0]);
    rig.outbox.online = true;
    await rig.send(bytes);
    expect(rig.replies).toMatchObject([{ status: "succeeded", result: 1 }]);
  });
});

describe("bounds", () => {
  test("so many run at once, the others come again", async () => {
    const rig = await startRig();
    for (let i = 1; i <= 20; i++) await rig.send({ id: `c${i}` });
    expect(rig.dispatcher.running).toHaveLength(16);
    expect(rig.statuses).toEqual(["c17 busy", "c18 busy", "c19 busy", "c20 busy"]);
    rig.dispatcher.end("c1");
    await rig.settle();
    await rig.send({ id: "c21" });
    expect(rig.dispatcher.running).toContain("c21");
  });

  test("the last 256 answers are remembered; of an older one the command runs again", async () => {
    const rig = await startRig({ dispatcher: answering() });
    const first = await rig.send({ id: "c0" });
    for (let i = 1; i <= 255; i++) await rig.send({ id: `c${i}` });
    await rig.send(first);
    expect(rig.dispatcher.begun).toHaveLength(256);
    await rig.send({ id: "c256" });
    await rig.send(first);
    expect(rig.dispatcher.begun).toHaveLength(258);
  });

  test("large answers are remembered by their bytes", async () => {
    const dispatcher = new FakeDispatcher();
    dispatcher.answer = () => ({ status: "succeeded", result: "x".repeat(60_000) });
    const rig = await startRig({ dispatcher });
    const sent: Uint8Array[] = [];
    for (let i = 0; i < 20; i++) sent.push(await rig.send({ id: `c${i}` }));
    await rig.send(sent[19] as Uint8Array);
    expect(dispatcher.begun).toHaveLength(20);
    await rig.send(sent[0] as Uint8Array);
    expect(dispatcher.begun).toHaveLength(21);
  });

  test("one that takes too long fails, and a stop ends what runs", async () => {
    const rig = await startRig();
    await rig.send();
    await rig.clock.advance(30_000);
    await rig.settle();
    expect(rig.replies).toMatchObject([{ status: "failed", error: { code: "deadline_exceeded" } }]);
    await rig.send({ id: "c2" });
    await rig.commands.stop(AbortSignal.abort());
    expect(rig.dispatcher.aborted).toEqual(["c1", "c2"]);
    expect(rig.replies).toHaveLength(1);
  });
});
