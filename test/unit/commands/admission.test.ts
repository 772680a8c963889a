import { describe, expect, test } from "vitest";
import { ownTopic, Rig } from "./rig.ts";

describe("admission", () => {
  test("a command runs and its one final reply is sent to its sender", async () => {
    const rig = await Rig.started();
    await rig.send({ params: { text: "hello" } });
    expect(rig.dispatcher.begun).toMatchObject([
      { id: "c1", name: "system.ping", params: { text: "hello" } },
    ]);
    rig.dispatcher.end("c1", { status: "succeeded", result: { pong: true } });
    await rig.settle();
    expect(rig.replies).toMatchObject([
      {
        topic: "GW_DOWN/p2p/GID_demo@@@console-1",
        id: "c1",
        device: "GID_demo@@@gw-01",
        status: "succeeded",
        result: { pong: true },
      },
    ]);
    expect(rig.outbox.reserved).toBe(0);
    expect(rig.commands.stats()).toMatchObject({ queued: 0, running: 0, finished: 1 });
  });

  test("a message is acknowledged, and its handler started, only once the journal is synced", async () => {
    const rig = await Rig.started();
    let release = (): void => undefined;
    rig.store.beforeSync = () => new Promise((resolve) => (release = resolve));
    await rig.send();
    expect(rig.inbound.accepted).toHaveLength(0);
    expect(rig.dispatcher.begun).toHaveLength(0);
    release();
    await rig.settle();
    expect(rig.inbound.accepted).toHaveLength(1);
    expect(rig.dispatcher.begun).toHaveLength(1);
  });

  test("while one commit is under way the reader goes on, and what came then shares the next", async () => {
    const rig = await Rig.started({ options: { maxQueued: 1_000 } });
    let release = (): void => undefined;
    rig.store.beforeSync = () => new Promise((resolve) => (release = resolve));
    await rig.send({ id: "first" });
    rig.store.beforeSync = () => Promise.resolve();
    for (let i = 0; i < 200; i++) rig.inbound.push(rig.command({ id: `c${i}` }));
    await rig.settle();
    expect(rig.inbound.unread).toBe(0);
    const syncs = rig.store.syncs;
    release();
    await rig.settle();
    expect(rig.inbound.accepted).toHaveLength(201);
    expect(rig.store.syncs - syncs).toBe(2);
  });

  test("acknowledgements leave in the order of arrival, whatever each message was", async () => {
    const rig = await Rig.started();
    const payloads = [
      rig.command({ id: "a" }),
      Buffer.from("garbage"),
      rig.command({ id: "b", command: "exec.run" }),
      rig.command({ id: "a" }),
      rig.command({ id: "c" }),
    ];
    for (const payload of payloads) rig.inbound.push(payload);
    await rig.settle();
    expect(rig.inbound.accepted).toEqual(payloads);
  });

  test("more than the bound is left with the session until there is room", async () => {
    const rig = await Rig.started({ options: { maxQueued: 10_000 } });
    let release = (): void => undefined;
    rig.store.beforeSync = () => new Promise((resolve) => (release = resolve));
    for (let i = 0; i < 2_000; i++) rig.inbound.push(rig.command({ id: `c${i}` }));
    await rig.settle();
    expect(rig.inbound.unread).toBeGreaterThan(1_000);
    rig.store.beforeSync = () => Promise.resolve();
    release();
    for (let i = 0; i < 20; i++) await rig.settle();
    expect(rig.inbound.unread).toBe(0);
    expect(new Set(rig.inbound.accepted).size).toBe(2_000);
  });

  test("what is not on the own P2P topic is acknowledged and counted, or routed", async () => {
    const rig = new Rig();
    const routed: string[] = [];
    await rig.commands.start(new AbortController().signal);
    void rig.commands.consume(rig.inbound, new AbortController().signal, (message) => {
      if (message.topic === "GW_DOWN/boom") throw new Error("boom");
      if (message.topic !== "GW_DOWN/mine") return false;
      routed.push(message.topic);
      return true;
    });
    const command = rig.command();
    for (const topic of [
      "GW_DOWN/x",
      "GW_DOWN/mine",
      "GW_UP/p2p/x",
      `${ownTopic}/x`,
      "GW_DOWN/boom",
    ])
      rig.inbound.push(command, topic);
    await rig.settle();
    expect(routed).toEqual(["GW_DOWN/mine"]);
    expect(rig.count("unrouted")).toBe(4);
    expect(rig.inbound.accepted).toHaveLength(4);
    expect(rig.dispatcher.begun).toHaveLength(0);
  });
});

describe("no room", () => {
  test("a full queue answers busy, records nothing, and takes the same bytes later", async () => {
    const rig = await Rig.started({ options: { maxQueued: 1 } });
    await rig.send({ id: "runs" });
    await rig.send({ id: "waits" });
    const bytes = await rig.send({ id: "late" });
    expect(rig.replies).toMatchObject([
      { id: "late", status: "busy", error: { code: "busy" }, retryAfterMs: expect.any(Number) },
    ]);
    expect(await rig.commands.get("late")).toEqual([]);
    rig.dispatcher.end("runs");
    await rig.settle();
    await rig.send(bytes);
    expect(await rig.commands.get("late")).toMatchObject([{ state: "queued" }]);
  });

  test("one plugin that is stuck leaves room for another", async () => {
    const rig = await Rig.started({ options: { maxQueued: 8 } });
    for (let i = 0; i < 10; i++) await rig.send({ id: `c${i}` });
    expect(rig.statuses).toEqual(["c7 busy", "c8 busy", "c9 busy"]);
    await rig.send({ id: "else", command: "other.do" });
    expect(rig.dispatcher.running).toEqual(["c0", "else"]);
  });

  test("commands of one plugin run one after the other, or as many as it can take", async () => {
    const options = { concurrency: (plugin: string) => (plugin === "other" ? 3 : 1) };
    const rig = await Rig.started({ options });
    for (let i = 0; i < 4; i++) await rig.send({ id: `s${i}` });
    for (let i = 0; i < 4; i++) await rig.send({ id: `o${i}`, command: "other.do" });
    expect(rig.dispatcher.running).toEqual(["s0", "o0", "o1", "o2"]);
    rig.dispatcher.end("o1");
    rig.dispatcher.end("s0");
    await rig.settle();
    expect(rig.dispatcher.running).toEqual(["o0", "o2", "o3", "s1"]);
  });

  test("without room for the reply the answer is busy", async () => {
    const rig = await Rig.started({ capacityBytes: 6_000 });
    await rig.send({ id: "a" });
    await rig.send({ id: "b" });
    expect(rig.statuses).toEqual(["b busy"]);
    rig.dispatcher.end("a");
    await rig.settle();
    expect(rig.outbox.reserved).toBe(0);
  });

  test("large parameters are bounded in their sum", async () => {
    const rig = await Rig.started();
    const params = { text: "x".repeat(48_000) };
    for (let i = 0; i < 200; i++) await rig.send({ id: `c${i}`, params });
    expect(rig.count("admitted")).toBeLessThan(180);
    expect(rig.count("busy")).toBe(200 - rig.count("admitted"));
  });

  test("a disk that does not take the commands: busy, acknowledged, run when repeated", async () => {
    const rig = await Rig.started();
    rig.store.failCommits(1);
    const bytes = await rig.send();
    expect(rig.inbound.accepted).toHaveLength(1);
    expect(rig.replies).toMatchObject([{ status: "busy", error: { code: "storage_unavailable" } }]);
    expect(rig.dispatcher.begun).toHaveLength(0);
    expect(rig.outbox.reserved).toBe(0);
    expect(rig.commands.stats().queued).toBe(0);
    await rig.send(bytes);
    expect(rig.dispatcher.begun).toHaveLength(1);
  });

  test("a reply that cannot be sent changes nothing else", async () => {
    const rig = await Rig.started();
    rig.outbox.failPuts = true;
    await rig.send({ command: "exec.run" });
    expect(rig.count("reply_failed")).toBe(1);
    await rig.send({ id: "c2" });
    rig.dispatcher.end("c2");
    await rig.settle();
    expect(rig.statuses).toEqual(["c2 succeeded"]);
  });
});
