/** The beginning and the end of the agent as a process, with a fake agent. */
import { describe, expect, test } from "vitest";
import { type AgentFactory, type Runnable, runAgent } from "../../../agent/cli/run.ts";
import { HoldfastError } from "../../../agent/core/errors.ts";
import { tempDir } from "../../support/temp-dir.ts";
import { waitFor } from "../../support/wait-for.ts";
import { world } from "./fixture.ts";

const plain = { config: undefined, set: [], noSafeMode: false, acceptSessionChange: false };

async function settings(): Promise<Record<string, string>> {
  return {
    HOLDFAST_DEVICE__CLIENT_ID: "GID_demo@@@gw-01",
    HOLDFAST_AUTH__ACCESS_KEY: "AK",
    HOLDFAST_AUTH__SECRET: "s",
    HOLDFAST_STATE__DIR: await tempDir(),
  };
}

function fakeAgent(parts: Partial<Runnable> = {}) {
  const seen: string[] = [];
  let given: Parameters<AgentFactory>[0] | undefined;
  const agent: Runnable = {
    name: "agent",
    async start() {
      seen.push("start");
    },
    async stop() {
      seen.push("stop");
    },
    ...parts,
  };
  const create: AgentFactory = async (options) => {
    given = options;
    return agent;
  };
  return { create, seen, given: () => given };
}

describe("run", () => {
  test("starts, waits for SIGTERM, stops, exit 0", async () => {
    const { create, seen, given } = fakeAgent();
    const context = world({ env: await settings() });
    const done = runAgent({ ...plain, noSafeMode: true }, context, create);
    await waitFor(() => seen.includes("start"));
    expect(seen).toEqual(["start"]);
    context.terminate();
    expect(await done).toBe(0);
    expect(seen).toEqual(["start", "stop"]);
    expect(given()).toMatchObject({
      safeMode: false,
      acceptSessionChange: false,
      version: "9.8.7",
    });
    expect(given()?.loaded.config.device.client_id).toBe("GID_demo@@@gw-01");
    expect(context.clock.sleeping).toBe(0);
  });

  test("an agent whose store can be opened now is stopped and built anew", async () => {
    const seen: string[] = [];
    let made = 0;
    const recoverable = Promise.withResolvers<void>();
    const create: AgentFactory = async () => {
      const n = ++made;
      return {
        name: "agent",
        start: async () => void seen.push(`start ${n}`),
        stop: async () => void seen.push(`stop ${n}`),
        ...(n === 1 && { again: recoverable.promise }),
      };
    };
    const context = world({ env: await settings() });
    const done = runAgent(plain, context, create);
    await waitFor(() => seen.includes("start 1"));
    recoverable.resolve();
    await waitFor(() => seen.includes("start 2"));
    context.terminate();
    expect(await done).toBe(0);
    expect(seen).toEqual(["start 1", "stop 1", "start 2", "stop 2"]);
  });

  test("a wrong configuration never makes an agent", async () => {
    const { create, given } = fakeAgent();
    const env = { ...(await settings()), HOLDFAST_SERVICE__KEEPALIVE_S: "1" };
    const failed = runAgent(plain, world({ env }), create);
    await expect(failed).rejects.toMatchObject({ code: "config_invalid" });
    expect(given()).toBeUndefined();
  });

  test("a start that fails is stopped, and its error is the outcome", async () => {
    const error = new HoldfastError("store_locked", "Process 4711 holds it.");
    const { create, seen } = fakeAgent({ start: () => Promise.reject(error) });
    const failed = runAgent(plain, world({ env: await settings() }), create);
    await expect(failed).rejects.toBe(error);
    expect(seen).toEqual(["stop"]);
  });

  test("a stop that takes too long is told so at the deadline", async () => {
    let deadline: AbortSignal | undefined;
    const { create, seen } = fakeAgent({
      stop: (given) => {
        deadline = given;
        return new Promise((resolve) => given.addEventListener("abort", () => resolve()));
      },
    });
    const context = world({ env: await settings() });
    const done = runAgent(plain, context, create);
    await waitFor(() => seen.includes("start"));
    context.terminate();
    await waitFor(() => deadline);
    await context.clock.advance(19_999);
    expect(deadline?.aborted).toBe(false);
    await context.clock.advance(1);
    expect(await done).toBe(0);
  });

  test("SIGHUP gives the new configuration; a wrong one changes nothing and is told", async () => {
    const levels: string[] = [];
    const { create, seen } = fakeAgent({
      async reload(loaded) {
        levels.push(loaded.config.log.level);
      },
    });
    const env = await settings();
    const context = world({ env });
    const done = runAgent(plain, context, create);
    await waitFor(() => seen.includes("start"));
    env["HOLDFAST_LOG__LEVEL"] = "debug";
    context.hangUp();
    await waitFor(() => levels.length === 1);
    env["HOLDFAST_LOG__LEVEL"] = "loud";
    context.hangUp();
    await waitFor(() => context.err().includes("HOLDFAST_LOG__LEVEL"));
    context.terminate();
    expect(await done).toBe(0);
    expect(levels).toEqual(["debug"]);
  });

  test("an agent that ends by itself ends the run", async () => {
    const { promise: ended, reject } = Promise.withResolvers<void>();
    const start = (): Promise<void> => Promise.resolve(reject(new Error("broken")));
    const { create, seen } = fakeAgent({ ended, start });
    const failed = runAgent(plain, world({ env: await settings() }), create);
    await expect(failed).rejects.toThrow("broken");
    expect(seen).toEqual(["stop"]);
  });
});
