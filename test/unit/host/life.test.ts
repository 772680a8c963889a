/** Plugins that start, fail to start and stop; the context they are given; `agent.describe`. */
import * as v from "valibot";
import { expect, test } from "vitest";
import { HoldfastError } from "../../../agent/core/errors.ts";
import { definePlugin, type Plugin, type PluginContext } from "../../../agent/sdk/sdk.ts";
import { command, hosting, never } from "./support.ts";

function plugin(name: string, parts: Partial<Plugin> = {}): Plugin {
  return {
    ...definePlugin({
      name,
      version: "1.0.0",
      commands: { ok: { summary: "Says ok.", handler: () => "ok" } },
    }),
    ...parts,
  };
}

test("alarms of plugins that run no more are cleared, the others stay", async () => {
  const { host, alarms } = hosting([plugin("on"), plugin("off")], { enabled: ["on", "gone"] });
  const kept = ["off.hot", "on.hot", "plugin.off", "plugin.on", "plugin.gone", "plugin.old"];
  for (const name of [...kept, "store.not_writable", "offline.x"])
    alarms.raise(name, { cause: "" });
  await host.start(never);
  expect([...alarms.raised.keys()]).toEqual([
    "on.hot", // Its own plugin may clear it.
    "plugin.gone", // Enabled, and still not there.
    "store.not_writable",
    "offline.x",
  ]);
});

test("a plugin that fails in start is listed with the reason and stops nobody else", async () => {
  const bad = plugin("bad", { start: () => Promise.reject(new Error("no such bus")) });
  const { host, alarms } = hosting([bad, plugin("good")]);
  await host.start(never);
  expect(host.list()).toEqual([
    {
      name: "bad",
      version: "1.0.0",
      isolation: "inline",
      state: "failed",
      restarts: 0,
      reason: expect.stringContaining("no such bus"),
    },
    { name: "good", version: "1.0.0", isolation: "inline", state: "running", restarts: 0 },
  ]);
  expect(alarms.raised.get("plugin.bad")).toContain("no such bus");
  expect(await host.dispatch(command("good.ok"), never)).toMatchObject({ result: "ok" });
  expect(await host.dispatch(command("bad.ok"), never)).toMatchObject({
    status: "failed",
    error: { code: "plugin_failed", message: expect.stringContaining("no such bus") },
  });
  expect(await host.checks()[0]?.run(never)).toMatchObject({ status: "warn" });
});

test("one that hangs in start is given up, and its signal ends what it began", async () => {
  let signal: AbortSignal | undefined;
  const hanging = plugin("hanging", {
    start: (context) => {
      signal = context.signal;
      return new Promise(() => undefined);
    },
  });
  const { host, clock } = hosting([hanging, plugin("good")], { startTimeoutMs: 1_000 });
  const started = host.start(never);
  await clock.advance(1_000);
  await started;
  expect(host.list().map(({ state }) => state)).toEqual(["failed", "running"]);
  expect(signal?.aborted).toBe(true);
});

test("an end of the agent while a plugin starts does not wait for it", async () => {
  const hanging = plugin("hanging", { start: () => new Promise(() => undefined) });
  const { host, alarms } = hosting([hanging]);
  const abort = new AbortController();
  const started = host.start(abort.signal);
  abort.abort();
  await started;
  expect(host.list()[0]?.state).toBe("stopped");
  expect(alarms.raised.size).toBe(0);
});

test("an enabled plugin that does not exist is listed as failed", async () => {
  const { host } = hosting([plugin("good")], { enabled: ["good", "nowhere", "agent"] });
  await host.start(never);
  expect(host.list()).toContainEqual({
    name: "nowhere",
    version: "",
    isolation: "inline",
    state: "failed",
    restarts: 0,
    reason: "There is no plugin of this name.",
  });
});

test("one that is not enabled is not there", async () => {
  const { host } = hosting([plugin("off")], { enabled: [] });
  await host.start(never);
  expect(host.list()).toEqual([]);
  expect(await host.dispatch(command("off.ok"), never)).toMatchObject({
    error: { code: "command_unknown" },
  });
});

test("the configuration is checked against the schema before start", async () => {
  let config: unknown;
  const configured = plugin("configured", {
    config: v.object({ path: v.string(), every_s: v.optional(v.number(), 60) }),
    start: (context) => {
      config = context.config;
    },
  });
  const sound = hosting([configured], { configs: { configured: { path: "/x" } } });
  await sound.host.start(never);
  expect(config).toEqual({ path: "/x", every_s: 60 });

  const wrong = hosting([configured], { configs: { configured: { path: 3 } } });
  await wrong.host.start(never);
  expect(wrong.host.list()[0]).toMatchObject({
    state: "failed",
    reason: expect.stringContaining("[plugins.config.configured] does not fit the plugin: path"),
  });
});

test("stop aborts the signal, calls stop once, and goes on at the deadline", async () => {
  const calls: string[] = [];
  let signal: AbortSignal | undefined;
  const slow = plugin("slow", {
    start: (context) => {
      signal = context.signal;
    },
    stop: () => {
      calls.push("slow");
      return new Promise<void>(() => undefined);
    },
  });
  const broken = plugin("broken", {
    stop: () => {
      calls.push("broken");
      throw new Error("cannot stop");
    },
  });
  const { host } = hosting([slow, broken]);
  await host.start(never);
  const deadline = new AbortController();
  const stopped = host.stop(deadline.signal);
  expect(signal?.aborted).toBe(true);
  deadline.abort();
  await stopped;
  await host.stop(deadline.signal);
  expect(calls.sort()).toEqual(["broken", "slow"]);
  expect(host.list().map(({ state }) => state)).toEqual(["stopped", "stopped"]);
  expect(await host.dispatch(command("slow.ok"), never)).toMatchObject({
    status: "failed",
    error: { code: "plugin_failed" },
  });
});

async function contextOf(parts: ReturnType<typeof hosting> | undefined = undefined) {
  let context: PluginContext | undefined;
  const spy = plugin("spy", {
    start: (given) => {
      context = given;
    },
  });
  const made = parts ?? hosting([spy]);
  await made.host.start(never);
  if (!context) throw new Error("start was not called");
  return { context, ...made };
}

test("publish puts below the parent topic and resolves when accepted", async () => {
  const { context, outgoing } = await contextOf();
  const bytes = new Uint8Array([1, 2]);
  expect(await context.publish("a/b", { n: 1 })).toMatchObject({ safe: "disk" });
  await context.publish("t", "text", { lane: "event", key: "k", ttlMs: 5 });
  const published = context.publish("t", bytes);
  bytes[0] = 9; // The plugin's buffer is its own again at once.
  await published;
  const read = (i: number) => Buffer.from(outgoing.messages[i]?.payload ?? []).toString();
  expect(outgoing.messages[0]).toMatchObject({ topic: "GW_UP/a/b", lane: "telemetry" });
  expect(read(0)).toBe('{"n":1}');
  expect(outgoing.messages[1]).toMatchObject({ lane: "event", key: "k", ttlMs: 5 });
  expect(read(1)).toBe("text");
  expect([...(outgoing.messages[2]?.payload ?? [])]).toEqual([1, 2]);
});

test.each(["", "p2p/GID@@@other", "health/gw", "alarm/gw", "gap/gw"])(
  "publish refuses the topic %j",
  async (topic) => {
    const { context, outgoing } = await contextOf();
    await expect(context.publish(topic, "x")).rejects.toMatchObject({ code: "topic_invalid" });
    expect(outgoing.messages).toEqual([]);
  },
);

test("a refusal of the outbox comes as a PluginError with its code", async () => {
  const { context, outgoing } = await contextOf();
  outgoing.refuse = new HoldfastError("lane_full", "Lane telemetry is full.");
  await expect(context.publish("a", "x")).rejects.toMatchObject({
    name: "PluginError",
    code: "lane_full",
  });
  const cycle: Record<string, never> = {};
  cycle["self"] = cycle as never;
  await expect(context.publish("a", cycle)).rejects.toMatchObject({ code: "message_invalid" });
});

test("alarms carry the plugin's name; the device is known", async () => {
  const { context, alarms } = await contextOf();
  context.alarm.raise("hot", { severity: "critical", cause: "91 degrees" });
  expect([...alarms.raised]).toEqual([["spy.hot", "91 degrees"]]);
  context.alarm.clear("hot");
  expect(alarms.raised.size).toBe(0);
  expect(context.device).toEqual({ clientId: "GID@@@gw", agentVersion: "0.1.0", nonce: "n0nce" });
});

const jsonSchema = { type: "object", properties: { n: { type: "number" } } };
const described = {
  "~standard": {
    version: 1 as const,
    vendor: "test",
    validate: (value: unknown) => ({ value }),
    jsonSchema: { input: () => jsonSchema, output: () => jsonSchema },
  },
};

test("agent.describe lists the commands of what runs, with schemas where they can be told", async () => {
  const typed = definePlugin({
    name: "typed",
    version: "1.0.0",
    commands: {
      set: { summary: "Sets.", idempotent: true, params: described, handler: () => 1 },
      get: { summary: "Gets.", params: v.object({}), deadlineMs: 7, handler: () => 1 },
    },
  });
  const bad = plugin("bad", { start: () => Promise.reject(new Error("x")) });
  const { host } = hosting([typed, bad]);
  await host.start(never);
  expect(await host.dispatch(command("agent.describe"), never)).toEqual({
    status: "succeeded",
    result: {
      commands: [
        {
          command: "agent.describe",
          summary: expect.any(String),
          idempotent: true,
        },
        { command: "typed.set", summary: "Sets.", idempotent: true, params: jsonSchema },
        { command: "typed.get", summary: "Gets.", deadlineMs: 7 },
      ],
    },
  });
  const one = await host.dispatch(command("agent.describe", { command: "typed.get" }), never);
  expect(one).toMatchObject({ result: { commands: [{ command: "typed.get" }] } });
  const none = await host.dispatch(command("agent.describe", { command: "a.b" }), never);
  expect(none).toMatchObject({ status: "failed", error: { code: "not_found" } });
  const typo = await host.dispatch(command("agent.describe", { comand: "a.b" }), never);
  expect(typo).toMatchObject({ error: { code: "params_invalid", details: { field: "comand" } } });
  expect(host.list().map(({ name }) => name)).toEqual(["typed", "bad"]);
});

test("agent.describe of a device with very many commands fits a reply and says what is missing", async () => {
  const commands = Object.fromEntries(
    Array.from({ length: 60 }, (_, i) => [
      `verb_${i}`,
      { summary: "x".repeat(150), params: described, handler: () => 1 },
    ]),
  );
  const { host } = hosting([plugin("many", { commands })]);
  await host.start(never);
  const outcome = await host.dispatch(command("agent.describe"), never);
  expect(Buffer.byteLength(JSON.stringify(outcome))).toBeLessThan(4_096);
  expect(outcome).toMatchObject({ result: { brief: true, truncated: expect.any(Number) } });
});
