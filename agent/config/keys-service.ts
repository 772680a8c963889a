/** The agent's keys that say who it is and how it reaches the service. */
import { limits } from "../core/limits.ts";
import { checkEndpoints, checkParentTopic, checkUrl } from "./forms.ts";
import { choice, flag, integer, type Key, list, path, secret, section, text } from "./table.ts";

export const device = section("Who this device is.", {
  client_id: text({
    required: true,
    example: "GID_demo@@@gw-01",
    doc: "Client id, unique in the whole service. Profile lmq: GROUP@@@DEVICE, at most 64 characters.",
  }),
});

export const service = section("The message service.", {
  profile: choice(["lmq", "mqtt"], {
    default: "lmq",
    doc: "lmq: the LMQ service or holdfast cloud. mqtt: any standard MQTT broker.",
  }),
  endpoints: list({
    default: ["mqtt://127.0.0.1:1883"],
    doc: "Addresses as mqtt, mqtts, ws or wss URLs, tried in order.",
    check: checkEndpoints,
  }),
  instance_id: text({ default: "mqtt-local", doc: "Instance of the service (profile lmq)." }),
  keepalive_s: integer({
    default: 90,
    min: 5,
    max: 65_535,
    unit: "s",
    doc: "A silence this long is ended by a ping.",
  }),
  clean_session: flag({
    default: false,
    doc: "true: nothing is kept for this device while it is offline. Must stay the same for a client id.",
  }),
  ordered: flag({
    default: false,
    doc: "Ask the service to keep this device's upstream order (profile lmq).",
  }),
  topic_max: integer({
    default: 128,
    min: 16,
    max: 65_535,
    unit: "characters",
    doc: "Longest topic that the service takes; over 64 is a warning.",
  }),
  proxy: text({
    default: "",
    example: "http://proxy.example:3128",
    doc: "HTTP proxy for the connection; empty is none.",
    check: (value) => (value === "" ? undefined : checkUrl(value, ["http:", "https:"])),
  }),
  connect_timeout_ms: milliseconds(30_000, 100, "A connection that takes longer is given up."),
  ack_timeout_ms: milliseconds(
    30_000,
    100,
    "No acknowledgement for this long: the connection is given up.",
  ),
  reconnect: section(
    "Attempt n waits a random time up to min(max_ms, min_ms * 2^n); back to 0 after 60 s online.",
    {
      min_ms: milliseconds(500, 10, "Ceiling of the first wait."),
      max_ms: milliseconds(120_000, 10, "Ceiling of all waits."),
      refused_min_ms: milliseconds(
        10_000,
        10,
        "The same after refused credentials, once fresh ones were refused too.",
      ),
      takeover_min_ms: milliseconds(
        30_000,
        10,
        "The same after the third take-over of the client id within 5 minutes.",
      ),
    },
  ),
});

export const auth = section("How the device proves who it is.", {
  mode: choice(["signature", "token", "password", "jwt", "mtls"], {
    default: "signature",
    doc: "signature: an account's key pair. token: tokens of the service from a source. password: user name and password, both may be empty. jwt: a token as password. mtls: the client certificate in [tls].",
  }),
  access_key: text({
    default: "",
    example: "AK",
    showExample: true,
    doc: "The account (modes signature and token).",
  }),
  secret: secret({
    example: "the secret of the account",
    showExample: true,
    doc: "The account's secret (mode signature).",
  }),
  source: choice(["http", "file", "command"], {
    default: "http",
    doc: "Where tokens come from (modes token and jwt).",
  }),
  url: text({
    default: "",
    example: "https://app.example/token",
    doc: 'Source http: GET with header X-Client-Id; answers {"tokens":{"RW":"..."},"expiresInMs":n,"expiresAt":ms,"now":ms} (jwt: "jwt":"...").',
    check: (value) => (value === "" ? undefined : checkUrl(value, ["http:", "https:"])),
  }),
  source_bearer: secret({ doc: "Source http: sent as Authorization: Bearer." }),
  source_cert_file: path({ default: "", doc: "Source http: client certificate, PEM." }),
  source_key_file: path({ default: "", doc: "Source http: its private key, PEM." }),
  source_ca_file: path({ default: "", doc: "Source http: certificates to trust, PEM." }),
  file: path({
    default: "",
    example: "/run/holdfast/token.json",
    doc: "Source file: a file with the same JSON.",
  }),
  command: list({
    default: [],
    example: ["/usr/local/bin/get-token"],
    doc: "Source command: program and arguments; it prints the same JSON.",
  }),
  username: text({ default: "", doc: "User name (modes password and jwt)." }),
  password: secret({ doc: "Password (mode password)." }),
});

export const tls = section("TLS of the connection (mqtts and wss).", {
  ca_file: path({ default: "", doc: "Certificates to trust, PEM; empty: those of the system." }),
  cert_file: path({ default: "", doc: "Client certificate, PEM." }),
  key_file: path({ default: "", doc: "Its private key, PEM; a file that nobody else may read." }),
  server_name: text({ default: "", doc: "Name expected in the server's certificate." }),
});

export const topics = section("Parent topics.", {
  up: text({
    default: "GW_UP",
    doc: "Parent topic of all that the device sends.",
    check: checkParentTopic,
  }),
  down: text({
    default: "GW_DOWN",
    doc: "Parent topic of what it is sent.",
    check: checkParentTopic,
  }),
});

function milliseconds(value: number, min: number, doc: string): Key<number> {
  return integer({ default: value, min, max: 86_400_000, unit: "ms", doc });
}

export const outboxKeys = {
  persist_delay_ms: integer({
    default: 100,
    min: 0,
    max: 10_000,
    unit: "ms",
    doc: "How long a message may wait for the service's acknowledgement before it is written to disk, at most; 0: always to disk at once.",
  }),
  window: integer({
    default: 64,
    min: 1,
    max: limits.windowMessages,
    unit: "messages",
    doc: "Messages in flight at most.",
  }),
  max_rate: integer({
    default: 0,
    min: 0,
    max: 1_000_000,
    unit: "messages/s",
    doc: "Messages a second to the service; 0 is no limit. LMQ advises 20 at most.",
  }),
  settle_every: integer({
    default: 4_096,
    min: 1,
    max: 65_536,
    unit: "messages",
    doc: "At most so many acknowledged messages may be sent again after a power cut.",
  }),
} as const;
