import { describe, expect, test } from "vitest";
import { Rig } from "./rig.ts";

describe("a reply topic that the configuration refuses now", () => {
  const long = "GID_demo@@@console-with-a-name-that-is-rather-long";

  test("holds up no other end: the command has its final, and is answered if asked", async () => {
    const first = await Rig.started();
    for (const id of ["a", "b"]) await first.send({ id });
    await first.send({ id: "long", from: long });
    const rig = await first.afterPowerCut({ options: { topicMax: 50 } });
    expect(rig.statuses).toEqual(["a interrupted", "b interrupted"]);
    expect(rig.count("reply_undeliverable")).toBe(1);
    expect(rig.commands.stats()).toMatchObject({ finished: 3, queued: 0, running: 0 });
    expect(await rig.commands.get("long")).toMatchObject([{ status: "interrupted" }]);
    await rig.clock.advance(120_000);
    expect(rig.count("finish_retried")).toBe(0);
    const again = await rig.afterPowerCut();
    expect([again.statuses, again.count("reply_undeliverable")]).toEqual([[], 0]);
  });

  test("a topic under a parent that is not ours any more is refused like one too long", async () => {
    const first = await Rig.started();
    const bytes = await first.send();
    const rig = await first.afterPowerCut({ options: { down: "NEW_DOWN" } });
    expect([rig.statuses, rig.count("reply_undeliverable")]).toEqual([[], 1]);
    await rig.send(bytes, `NEW_DOWN/p2p/GID_demo@@@gw-01`);
    expect(rig.replies).toMatchObject([
      { topic: "NEW_DOWN/p2p/GID_demo@@@console-1", id: "c1", status: "interrupted" },
    ]);
  });

  test("what only the outbox refuses ends as well, alone and among others", async () => {
    const first = await Rig.started({ options: { concurrency: () => 2 } });
    await first.send({ id: "good" });
    await first.send({ id: "long", from: long });
    const refuses = (topic: string): boolean => topic.endsWith(long);
    const rig = await first.afterPowerCut({ refuses });
    expect([rig.statuses, rig.count("reply_undeliverable")]).toEqual([["good interrupted"], 1]);
    first.outbox.refuses = refuses;
    first.dispatcher.end("long");
    await first.settle();
    expect(first.commands.stats().finished).toBe(1);
    expect(first.count("reply_undeliverable")).toBe(1);
    first.dispatcher.end("good");
    await first.settle();
    expect(first.outbox.reserved).toBe(0);
    expect(first.count("finish_retried")).toBe(0);
  });
});
