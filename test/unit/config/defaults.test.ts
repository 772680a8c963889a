import { expect, test } from "vitest";
import { agentTable, listKeys, renderDocs } from "../../../agent/config/config.ts";
import { LEAST, load } from "./agent.ts";

test("every key has the default that the surface promises", () => {
  const { config, warnings } = load(LEAST);
  expect(warnings).toEqual([]);
  expect(config).toMatchObject({
    device: { client_id: "GID_demo@@@gw-01" },
    service: {
      profile: "lmq",
      endpoints: ["mqtt://127.0.0.1:1883"],
      instance_id: "mqtt-local",
      keepalive_s: 90,
      clean_session: false,
      ordered: false,
      topic_max: 128,
      proxy: "",
      connect_timeout_ms: 30_000,
      ack_timeout_ms: 30_000,
      reconnect: {
        min_ms: 500,
        max_ms: 120_000,
        refused_min_ms: 10_000,
        takeover_min_ms: 30_000,
      },
    },
    auth: { mode: "signature", access_key: "AK", source: "http", url: "", file: "", command: [] },
    tls: { ca_file: "", cert_file: "", key_file: "", server_name: "" },
    topics: { up: "GW_UP", down: "GW_DOWN" },
    state: { dir: "/var/lib/holdfast", quota_mb: 320, keep_free_mb: 64 },
    outbox: { persist_delay_ms: 100, window: 64, max_rate: 0, settle_every: 4096 },
    commands: {
      allow_unsigned: ["system.ping", "system.info"],
      reply_to: ["{down}/p2p/+", "{up}/reply/+"],
      reply_rate: 10,
      max_queued: 1000,
      keys: [],
    },
    health: { interval_s: 60 },
    clock: { trust: "auto" },
    plugins: { dir: "/var/lib/holdfast/plugins", enabled: ["system"] },
    control: { dir: "/var/lib/holdfast" },
    log: { level: "info" },
  });
});

test.each([
  ["reply", 1, 10_000, 32, 0, "refuse", "all"],
  ["alarm", 2, 1_000, 4, 0, "refuse", "latest"],
  ["event", 3, 100_000, 16, 2_592_000, "drop-oldest", "all"],
  ["telemetry", 5, 1_000_000, 128, 259_200, "drop-oldest", "all"],
  ["bulk", 9, 1_000, 32, 259_200, "refuse", "all"],
] as const)(
  "lane %s always exists",
  (name, priority, max_messages, max_mb, ttl_s, when_full, keep) => {
    const lane = load(LEAST).config.outbox.lanes[name];
    const rest = { share: 1, payload: "raw" };
    expect(lane).toEqual({ priority, max_messages, max_mb, ttl_s, when_full, keep, ...rest });
  },
);

test("a lane of another name has the defaults of telemetry", () => {
  const { lanes } = load(`${LEAST}[outbox.lanes.video]\npriority = 7`).config.outbox;
  expect(lanes["video"]).toMatchObject({ priority: 7, max_messages: 1_000_000, ttl_s: 259_200 });
  expect(lanes["constructor"]).toBeUndefined();
});

test("systemd's folders are the defaults where it gives them", () => {
  const environment = { STATE_DIRECTORY: "/s/one:/s/two", RUNTIME_DIRECTORY: "/r" };
  const { config } = load(LEAST, { environment });
  expect(config.state.dir).toBe("/s/one");
  expect(config.plugins.dir).toBe("/s/one/plugins");
  expect(config.control.dir).toBe("/r");
});

test("the documentation has every key and its variable, and loads as it is", () => {
  const docs = renderDocs(agentTable, { environmentPrefix: "HOLDFAST_" });
  for (const { path } of listKeys(agentTable)) {
    const name = path.at(-1);
    expect(docs).toMatch(new RegExp(`^(# )?${name} = `, "m"));
    if (path.includes("*")) continue;
    const variable = `HOLDFAST_${path.join("__").toUpperCase()}`;
    expect(docs.replaceAll("\n# ", " ")).toContain(`Variable: ${variable}.`);
  }
  const documented = load(docs).config;
  expect({ ...documented, auth: undefined }).toEqual({ ...load(LEAST).config, auth: undefined });
  expect(docs.split("\n").every((line) => line.length <= 100)).toBe(true);
});

test("what the documentation comments out loads too once it is uncommented", () => {
  const docs = renderDocs(agentTable);
  const keys = docs.slice(docs.indexOf("# [[commands.keys]]"), docs.indexOf("# Health reports.\n"));
  const uncommented = keys.replaceAll(/^# (\[|\w+ = )/gm, "$1");
  expect(load(LEAST + uncommented).config.commands.keys).toEqual([
    expect.objectContaining({ kid: "ops-1", allow: ["system.*", "logs.tail"] }),
  ]);
});
