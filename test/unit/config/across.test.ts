import fc from "fast-check";
import { expect, test } from "vitest";
import { isLmqClientId, isStandardClientId } from "../../../agent/config/forms.ts";
import { isClientId } from "../../../agent/protocol/client-id.ts";
import { MemoryFiles } from "../../support/memory-files.ts";
import { FILE, failure, LEAST, load, problems } from "./agent.ts";

const longId = `GID_demo@@@${"g".repeat(53)}`;
const withId = (id: string): string => LEAST.replace("GID_demo@@@gw-01", id);

test.each([
  [
    "group missing",
    withId("gw-01"),
    ':2: device.client_id: "gw-01" does not fit; expected GROUP@@@DEVICE',
  ],
  ["id too long", withId(`${longId}x`), ":2: device.client_id: "],
  ["id not of its characters", withId("GID_demo@@@gw/01"), ":2: device.client_id: "],
  [
    "parent of two levels in lmq",
    `${LEAST}[topics]\nup = "a/b"`,
    ':7: topics.up: "a/b" does not fit; expected one level',
  ],
  [
    "wildcard parent",
    `${LEAST}[topics]\ndown = "a+"`,
    ':7: topics.down: "a+" does not fit; expected a topic without wildcards',
  ],
  [
    "min over max",
    `${LEAST}[service.reconnect]\nmin_ms = 5000\nmax_ms = 1000\nrefused_min_ms = 1000\ntakeover_min_ms = 1000`,
    ":7: service.reconnect.min_ms: it is 5000; expected at most service.reconnect.max_ms, which is 1000",
  ],
  [
    "window too large",
    `${LEAST}[outbox]\nwindow = 20000`,
    ":7: outbox.window: it is 20000; expected an integer from 1 to 16384",
  ],
  [
    "no endpoint",
    `${LEAST}[service]\nendpoints = []`,
    ":7: service.endpoints: [] does not fit; expected at least one endpoint",
  ],
  [
    "endpoint of another scheme",
    `${LEAST}[service]\nendpoints = ["http://h:1"]`,
    "expected a URL like mqtt://HOST:PORT (mqtt://, mqtts://, ws://, wss://)",
  ],
  [
    "endpoint without a host",
    `${LEAST}[service]\nendpoints = ["mqtt:1883"]`,
    "expected a URL like mqtt://HOST:PORT",
  ],
  [
    "endpoint with a path",
    `${LEAST}[service]\nendpoints = ["mqtt://h/p"]`,
    "expected an endpoint without a path",
  ],
  [
    "endpoint with a bad port",
    `${LEAST}[service]\nendpoints = ["mqtt://h:70000"]`,
    "expected a URL like mqtt://HOST:PORT",
  ],
  [
    "token without a source",
    `${LEAST}[auth.x]`.replace("[auth.x]", 'mode = "token"'),
    'auth.url is not set; expected it for auth.mode = "token" with auth.source = "http"',
  ],
  [
    "mtls over plain tcp",
    `${LEAST}mode = "mtls"\n[tls]\ncert_file = "/c.pem"\nkey_file = "/k.pem"`,
    "mqtt://127.0.0.1:1883 has no TLS; expected mqtts:// or wss://",
  ],
  [
    "certificate without its key",
    `${LEAST}[tls]\ncert_file = "/c.pem"`,
    ":7: tls.cert_file: tls.key_file is not set; expected both or neither",
  ],
  [
    "tls file that is not there",
    `${LEAST}[tls]\nca_file = "/none.pem"`,
    ":7: tls.ca_file: there is no file /none.pem that can be read; expected a PEM file",
  ],
  [
    "a kid twice",
    `${LEAST}[[commands.keys]]\nkid = "a"\npublic_key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="\n[[commands.keys]]\nkid = "a"\npublic_key = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`,
    ':10: commands.keys.1.kid: "a" is there twice',
  ],
  [
    "reply topics with a bad wildcard",
    `${LEAST}[commands]\nreply_to = ["{down}/a+"]`,
    "expected + or # as a whole level",
  ],
])("%s", (_, toml, expected) => {
  const files = new MemoryFiles({ [FILE]: toml, "/c.pem": "c", "/k.pem": "k" });
  const { message } = failure(() => load("", { files }));
  const lines = message.split("\n").slice(1);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain(expected);
});

test("lanes without a max_mb of their own shrink to the quota, and the warning says to what", () => {
  const { config, warnings } = load(
    `${LEAST}[state]\nquota_mb = 138\n[outbox.lanes.reply]\nmax_mb = 10`,
  );
  const lanes = Object.entries(config.outbox.lanes);
  // (138 - 8) / 1.3 = 100, of which reply keeps its 10 and the 180 of the others become 90.
  expect(Object.fromEntries(lanes.map(([name, lane]) => [name, lane.max_mb]))).toEqual({
    ...{ reply: 10, alarm: 2, event: 8, telemetry: 64, bulk: 16 },
  });
  expect(warnings).toHaveLength(4);
  expect(warnings).toContainEqual({
    key: "outbox.lanes.telemetry.max_mb",
    message: "scaled down from 128 to 64 MB to fit state.quota_mb = 138",
  });
});

test("whatever the quota and the lanes, what is loaded fits", () => {
  const mb = fc.option(fc.integer({ min: 1, max: 200 }));
  fc.assert(
    fc.property(fc.integer({ min: 16, max: 2_000 }), mb, mb, mb, (quota, reply, telemetry, own) => {
      const lane = (name: string, max: number | null): string =>
        max === null ? "" : `[outbox.lanes.${name}]\nmax_mb = ${max}\n`;
      const toml = `${LEAST}[state]\nquota_mb = ${quota}\n${lane("reply", reply)}${lane("telemetry", telemetry)}${lane("own", own)}`;
      try {
        const lanes = Object.values(load(toml).config.outbox.lanes);
        const sum = lanes.reduce((all, { max_mb }) => all + max_mb, 0);
        expect(sum * 1.3 + 8).toBeLessThanOrEqual(quota + 1e-6);
        expect(lanes.every(({ max_mb }) => max_mb >= 0.25)).toBe(true);
      } catch (error) {
        // A refusal says what quota would do, and that one does.
        const needed = Number(/a quota of at least (\d+) MB/.exec(String(error))?.[1]);
        expect(needed).toBeGreaterThan(quota);
        expect(() =>
          load(toml.replace(`quota_mb = ${quota}`, `quota_mb = ${needed}`)),
        ).not.toThrow();
      }
    }),
    { numRuns: 100 },
  );
});

test("set lanes that cannot fit are an error at the quota", () => {
  const lines = problems(`${LEAST}[state]\nquota_mb = 100\n[outbox.lanes.bulk]\nmax_mb = 90`);
  expect(lines).toEqual([
    expect.stringContaining(`${FILE}:7: state.quota_mb: the lanes do not fit`),
  ]);
});

test("own topics: over 64 characters is a warning, over topic_max names what to shorten", () => {
  const { warnings } = load(withId(longId));
  expect(warnings.map(({ key }) => key)).toEqual(
    ["topics.up", "topics.up", "topics.down"].slice(0, warnings.length),
  );
  expect(warnings.at(-1)?.message).toContain(`GW_DOWN/p2p/${longId} has 76 characters`);
  const lines = problems(`${withId(longId)}[service]\ntopic_max = 75`);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain(
    "has 76 characters, and service.topic_max is 75; expected a shorter device.client_id or topics.down",
  );
});

test.each([
  [
    "loopback",
    `endpoints = ["mqtt://127.0.0.1:1", "ws://localhost", "mqtts://[::1]:8883"]`,
    0,
    false,
  ],
  ["remote without a rate", `endpoints = ["mqtts://mqtt.example"]`, 0, true],
  ["remote with a rate", `endpoints = ["mqtts://mqtt.example"]`, 20, false],
  ["remote with too high a rate", `endpoints = ["mqtts://mqtt.example"]`, 21, true],
  ["a standard broker", `profile = "mqtt"\nendpoints = ["mqtts://mqtt.example"]`, 0, false],
])("rate: %s", (_, service, rate, warns) => {
  const { warnings } = load(`${LEAST}[service]\n${service}\n[outbox]\nmax_rate = ${rate}`);
  expect(warnings.some(({ key }) => key === "outbox.max_rate")).toBe(warns);
});

test("a standard broker takes other ids and parents, and needs no credentials", () => {
  const { config } = load(
    `[device]\nclient_id = "gw 1"\n[service]\nprofile = "mqtt"\n[topics]\nup = "site/a"\n[auth]\nmode = "password"`,
  );
  expect(config.topics.up).toBe("site/a");
});

test("the forms of client ids are those of the protocol", () => {
  const part = fc.stringMatching(/^[\w@/+#. -]{0,12}$/);
  const id = fc.oneof(
    fc.tuple(part, part).map(([a, b]) => `${a}@@@${b}`),
    fc.string({ unit: "binary" }),
  );
  fc.assert(
    fc.property(id, (text) => {
      expect(isLmqClientId(text)).toBe(isClientId(text, "lmq"));
      expect(isStandardClientId(text)).toBe(isClientId(text, "mqtt"));
    }),
  );
});
