import { describe, expect, test } from "vitest";
import type { CommandResult } from "../../../agent/commands/commands.ts";
import { Rig } from "./rig.ts";

const succeeded = (result: unknown): CommandResult => ({
  status: "succeeded",
  result: result as never,
});

async function ended(result: CommandResult, parts = {}): Promise<Rig> {
  const rig = await Rig.started(parts);
  await rig.send();
  rig.dispatcher.end("c1", result);
  await rig.settle();
  return rig;
}

describe("the end of a command", () => {
  test("and its reply are one synced commit", async () => {
    const rig = await Rig.started();
    await rig.send();
    const before = { commits: rig.store.commits, syncs: rig.store.syncs };
    rig.dispatcher.end("c1");
    await rig.settle();
    expect(rig.store.commits - before.commits).toBe(1);
    expect(rig.store.syncs - before.syncs).toBe(1);
    const cut = await rig.afterPowerCut();
    expect(await cut.commands.get("c1")).toMatchObject([{ state: "final", status: "succeeded" }]);
    expect(await cut.outbox.stored()).toHaveLength(1);
    expect(cut.dispatcher.begun).toHaveLength(0);
  });

  test("waits for a disk that fails, with its room held, and is said once", async () => {
    const rig = await Rig.started();
    await rig.send();
    rig.store.failCommits(5);
    rig.dispatcher.end("c1", succeeded("kept"));
    await rig.settle();
    expect(rig.outbox.sent).toHaveLength(0);
    expect(rig.commands.stats()).toMatchObject({ finished: 0, queued: 1, running: 0 });
    await rig.clock.advance(60_000);
    expect(rig.count("finish_retried")).toBe(5);
    expect(rig.replies).toMatchObject([{ status: "succeeded", result: "kept" }]);
    expect(await rig.outbox.stored()).toHaveLength(1);
    expect(rig.commands.stats()).toMatchObject({ finished: 1, queued: 0 });
  });

  test("a result without a value is null", async () => {
    const rig = await ended(succeeded(undefined));
    expect(rig.replies).toMatchObject([{ status: "succeeded", result: null }]);
  });
});

describe("results of any size", () => {
  test("larger than the room held at admission: more room is taken", async () => {
    const rig = await ended(succeeded("x".repeat(50_000)));
    expect(rig.replies).toMatchObject([{ status: "succeeded" }]);
    expect(rig.outbox.reserved).toBe(0);
  });

  test("larger than the room there is: no_room, with the true size", async () => {
    const rig = await ended(succeeded("x".repeat(20_000)), { capacityBytes: 10_000 });
    expect(rig.replies).toMatchObject([{ status: "failed", error: { code: "no_room" } }]);
    expect(rig.replies[0]?.error?.details?.["bytes"]).toBeGreaterThan(20_000);
    expect(rig.outbox.reserved).toBe(0);
  });

  test("larger than a message: no_room, with the true size and the limit", async () => {
    const rig = await ended(succeeded("x".repeat(70_000)));
    expect(rig.replies).toMatchObject([
      { status: "failed", error: { code: "no_room", details: { limit: 65_536 } } },
    ]);
    expect(rig.replies[0]?.error?.details?.["bytes"]).toBeGreaterThan(70_000);
  });

  test("a huge error message is cut, a huge detail is no_room", async () => {
    const error = { code: "x", message: "m".repeat(100_000) };
    const cut = await ended({ status: "failed", error });
    expect(cut.replies[0]?.error?.message.length).toBeLessThan(1_000);
    const details = { text: "d".repeat(100_000) };
    const large = await ended({ status: "failed", error: { ...error, details } });
    expect(large.replies).toMatchObject([{ error: { code: "no_room" } }]);
  });
});

describe("a dispatcher that breaks its word", () => {
  const cycle: Record<string, unknown> = {};
  cycle["self"] = cycle;
  test.each([
    ["a cycle", succeeded(cycle)],
    ["a BigInt", succeeded(1n)],
    ["a number that would be rounded", succeeded(2 ** 60)],
    ["depth 1,000", succeeded(JSON.parse(`${"[".repeat(1_000)}${"]".repeat(1_000)}`))],
    ["a status of its own", { status: "great" } as unknown as CommandResult],
    ["busy", { status: "busy" } as unknown as CommandResult],
    ["nothing", null as unknown as CommandResult],
    ["a failure without an error", { status: "failed" } as unknown as CommandResult],
    [
      "a code that is no text",
      { status: "failed", error: { code: 1 } } as unknown as CommandResult,
    ],
  ])("%s ends failed, handler_failed", async (_name, result) => {
    const rig = await ended(result);
    expect(rig.replies).toMatchObject([{ status: "failed", error: { code: "handler_failed" } }]);
  });

  test.each([
    [
      "throws",
      () => {
        throw new Error("boom");
      },
    ],
    ["rejects", () => Promise.reject(new Error("boom"))],
    ["rejects with nothing", () => Promise.reject(undefined)],
  ])("that %s ends failed, and the next command runs", async (_name, answer) => {
    const rig = await Rig.started();
    rig.dispatcher.answer = answer;
    await rig.send({ id: "a" });
    rig.dispatcher.answer = () => succeeded(1);
    await rig.send({ id: "b" });
    expect(rig.replies).toMatchObject([
      { id: "a", status: "failed", error: { code: "handler_failed" } },
      { id: "b", status: "succeeded" },
    ]);
  });
});

describe("the deadline", () => {
  test("ends a command, tells its handler, frees its place and hears nothing more of it", async () => {
    const rig = await Rig.started({ options: { deadlineMs: 5_000 } });
    await rig.send({ id: "slow" });
    await rig.send({ id: "next" });
    await rig.clock.advance(5_000);
    await rig.settle();
    expect(rig.dispatcher.aborted).toEqual(["slow"]);
    expect(rig.replies.filter(({ id }) => id === "slow").at(-1)).toMatchObject({
      status: "failed",
      error: { code: "deadline_exceeded" },
    });
    expect(rig.dispatcher.begun.map(({ id }) => id)).toEqual(["slow", "next"]);
    rig.dispatcher.end("slow", succeeded("late"));
    await rig.settle();
    expect(rig.replies.filter(({ id }) => id === "slow").at(-1)?.status).toBe("failed");
  });

  test("leaves no timer behind a command that ended in time", async () => {
    const rig = await Rig.started();
    await rig.clock.advance(1_000); // The look over the journal after the start is done.
    const before = rig.clock.sleeping;
    await rig.send();
    rig.dispatcher.end("c1");
    await rig.settle();
    expect(rig.clock.sleeping).toBe(before);
  });
});

describe("word before the end", () => {
  test("a quick command says nothing but its end", async () => {
    const rig = await Rig.started();
    await rig.send();
    await rig.clock.advance(1_999);
    rig.dispatcher.end("c1");
    await rig.settle();
    expect(rig.statuses).toEqual(["c1 succeeded"]);
  });

  test("after two seconds a waiting command is accepted, a running one running", async () => {
    const rig = await Rig.started();
    await rig.send({ id: "a" });
    await rig.send({ id: "b" });
    await rig.clock.advance(2_000);
    await rig.settle();
    expect(rig.statuses).toEqual(["a running", "b accepted"]);
    rig.dispatcher.end("a");
    await rig.settle();
    expect(rig.statuses.slice(2).sort()).toEqual(["a succeeded", "b running"]);
  });

  test("who asks for progress hears every step at once", async () => {
    const rig = await Rig.started();
    await rig.send({ progress: true });
    rig.dispatcher.end("c1");
    await rig.settle();
    expect(rig.statuses).toEqual(["c1 accepted", "c1 running", "c1 succeeded"]);
    expect(rig.replies.map(({ status }) => status).at(-1)).toBe("succeeded");
  });
});

describe("stopping", () => {
  test("takes nothing more, waits for what runs, and leaves what waits to the next start", async () => {
    const rig = await Rig.started();
    await rig.send({ id: "runs" });
    await rig.send({ id: "waits" });
    const deadline = new AbortController();
    let done = false;
    const stopping = rig.commands.stop(deadline.signal).then(() => (done = true));
    await rig.send({ id: "late" });
    expect([done, rig.inbound.accepted.length]).toEqual([false, 2]);
    rig.dispatcher.end("runs");
    await stopping;
    expect(rig.statuses).toEqual(["runs succeeded"]);
    expect(rig.outbox.reserved).toBe(0);
    const next = await rig.afterPowerCut();
    expect(next.statuses).toEqual(["waits interrupted"]);
  });

  test("at the deadline handlers are told, and what they still say is not heard", async () => {
    const rig = await Rig.started();
    await rig.send({ id: "stubborn" });
    await rig.commands.stop(AbortSignal.abort());
    expect(rig.dispatcher.aborted).toEqual(["stubborn"]);
    rig.dispatcher.end("stubborn", succeeded(1));
    await rig.settle();
    expect(rig.outbox.sent).toHaveLength(0);
    expect((await rig.afterPowerCut()).statuses).toEqual(["stubborn interrupted"]);
  });

  test("may be asked for twice and before any start", async () => {
    const rig = new Rig();
    await rig.commands.stop(AbortSignal.abort());
    await rig.commands.stop(AbortSignal.abort());
  });

  test("is not held up by a disk that does not answer", async () => {
    const rig = await Rig.started();
    rig.store.beforeSync = () => new Promise(() => undefined);
    await rig.send();
    await rig.commands.stop(AbortSignal.abort());
    expect(rig.inbound.accepted).toHaveLength(0);
  });
});
