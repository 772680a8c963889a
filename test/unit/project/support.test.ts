import { existsSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { FakeClock } from "../../support/fake-clock.ts";
import { makeTempDir, tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";

const never = new AbortController().signal;

describe("the fake clock", () => {
  test("wakes sleepers in the order of their deadlines, each at its own moment", async () => {
    const clock = new FakeClock();
    const startMs = clock.monotonicMs();
    const woken: string[] = [];
    const note = (name: string) => () => woken.push(`${name}@${clock.monotonicMs() - startMs}`);
    const sleeps = [
      clock.sleep(30, never).then(note("c")),
      clock.sleep(10, never).then(note("a")),
      clock.sleep(10, never).then(note("b")),
      clock.sleep(31, never).then(note("d")),
    ];
    await clock.advance(30);
    expect(woken).toEqual(["a@10", "b@10", "c@30"]);
    expect(clock.sleeping).toBe(1);
    expect(clock.nextDueMs).toBe(1);
    await clock.advance(1);
    await Promise.all(sleeps);
  });

  test("lets a loop sleep again within one advance", async () => {
    const clock = new FakeClock();
    const stop = new AbortController();
    let rounds = 0;
    const loop = (async () => {
      while (!stop.signal.aborted) {
        await clock.sleep(1_000, stop.signal);
        rounds++;
      }
    })();
    await clock.advance(60_500);
    expect(rounds).toBe(60);
    stop.abort();
    await loop;
    expect(clock.sleeping).toBe(0);
  });

  test("a jump of the wall moves no sleeper; an abort ends the sleep at once", async () => {
    const clock = new FakeClock({ wallMs: 0, trusted: false });
    const stop = new AbortController();
    const sleep = clock.sleep(Number.POSITIVE_INFINITY, stop.signal);
    clock.jumpWall(7_200_000);
    clock.setTrusted(true);
    await clock.advance(5);
    expect([clock.wallMs(), clock.trusted(), clock.sleeping]).toEqual([7_200_005, true, 1]);
    stop.abort();
    await sleep;
  });
});

describe("temporary folders", () => {
  let left = "";

  test("exist while their test runs", async () => {
    left = await tempDir();
    expect(existsSync(left)).toBe(true);
  });

  test("are gone after it", async () => {
    expect(left).not.toBe("");
    expect(existsSync(left)).toBe(false);
    const own = await makeTempDir();
    await own.remove();
    expect(existsSync(own.path)).toBe(false);
  });
});

describe("waiting for a condition", () => {
  test("gives the value, and asks a failing probe again", async () => {
    let asked = 0;
    const value = await waitFor(() => {
      if (++asked < 3) throw new Error("not yet");
      return asked;
    });
    expect(value).toBe(3);
  });

  test("says what never came, and why", async () => {
    const cause = new Error("closed");
    const waiting = waitFor(() => Promise.reject(cause), { what: "the port", guardMs: 20 });
    await expect(waiting).rejects.toMatchObject({
      message: expect.stringContaining("the port"),
      cause,
    });
  });
});
