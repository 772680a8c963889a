/** cloud.toml: surface section 6, key for key. */
import {
  defineTable,
  flag,
  integer,
  type Loaded,
  list,
  path,
  secret,
  section,
  tables,
  text,
} from "../../agent/config/config.ts";
import { isGroupId } from "../../agent/protocol/client-id.ts";

const port = (doc: string) =>
  integer({ default: 0, min: 0, max: 65_535, doc: `${doc} 0: not listened on.` });
const count = (value: number, doc: string, min = 1) =>
  integer({ default: value, min, max: 1_000_000_000, doc });
/** A time of the protocol, in milliseconds. */
const time = (value: number, doc: string) =>
  integer({ default: value, min: 1, max: 31_536_000_000, unit: "ms", doc });

export const cloudTable = defineTable({
  listen: section("Where it listens.", {
    host: text({ default: "127.0.0.1", doc: "The address of all ports." }),
    mqtt: port("MQTT over TCP."),
    mqtts: port("MQTT over TLS."),
    ws: port("MQTT over WebSocket."),
    wss: port("MQTT over WebSocket and TLS."),
    http: port("Status query, token API and MQ side."),
  }),
  tls: section("The certificate of mqtts and wss.", {
    cert_file: path({ default: "", doc: "PEM, with the chain." }),
    key_file: path({ default: "", doc: "PEM." }),
  }),
  data: section("What it must not forget.", {
    dir: path({ default: "./cloud-data", doc: "Its database." }),
  }),
  accounts: tables("Who may use it.", {
    access_key: text({ required: true, example: "AK", doc: "AccessKeyId." }),
    secret: secret({ doc: "AccessKeySecret." }),
  }),
  instance: section("The one instance it serves.", {
    id: text({ default: "mqtt-local", doc: "Its name in CONNECT and in requests." }),
    groups: list({
      default: [],
      example: ["GID_demo"],
      doc: "Group ids that were created.",
      check: (groups) =>
        groups.every(isGroupId) ? undefined : "group ids: GID_ or GID-, 7 to 64 characters",
    }),
    topics: tables("Parent topics that were created.", {
      name: text({
        required: true,
        example: "GW_UP",
        doc: "The first level.",
        check: (name) =>
          /^[0-9A-Za-z_-]{1,64}$/.test(name) ? undefined : "letters, digits, - and _",
      }),
      ordered: flag({ default: false, doc: "An ordered type, for MQ consumers." }),
    }),
  }),
  limits: section("lmq-protocol 1.3.", {
    payload_bytes: count(65_536, "A larger payload closes the connection."),
    topic_warn: count(64, "Characters of a topic that other editions of the service take."),
    topic_max: count(128, "A longer topic closes the connection."),
    subscriptions: count(30, "Filters of one client; one more is answered 0x80."),
    client_id_max: integer({ default: 64, min: 9, max: 64, doc: "Characters of a client id." }),
    offline_per_instance: count(1_000_000, "Waiting messages; the oldest are removed first."),
    connections_per_address: count(10_000, "Connections from one address."),
    rate_per_client: count(0, "Messages a second that are read from a client; 0 is any.", 0),
    token_resources: count(100, "Resources of one token."),
    mq_per_topic: count(1_000_000, "MQ messages of one topic; the oldest are removed first."),
    mq_unread: count(100_000, "The same of a topic that no consumer group reads."),
    mq_unread_per_s: count(100, "Publishes that are kept for it, after 10,000 at once.", 0),
    token_applies_per_s: count(1_000, "Tokens that one account may apply for; 0 is any.", 0),
    token_queries_per_s: count(1_000, "Tokens that one account may ask about; 0 is any.", 0),
    token_revokes_per_min: count(300, "Tokens that one account may revoke; 0 is any.", 0),
  }),
  timings: section("Every time of the protocol, for tests.", {
    ack_timeout_ms: time(5_000, "What is not acknowledged is sent again after this."),
    offline_batch: count(30, "Messages in one offline batch."),
    offline_interval_ms: time(5_000, "Between offline batches."),
    retry_limit: count(16, "Pushes of one message, the first one counted."),
    token_notice_ahead_ms: time(300_000, "The expiry notice comes this long before."),
    token_min_life_ms: time(60_000, "Shortest life of a token."),
    token_max_life_ms: time(2_592_000_000, "Longest life of a token."),
    timestamp_window_ms: time(300_000, "How far a request's timestamp may be off."),
    mq_lease_ms: time(30_000, "What a consumer does not confirm comes again after this."),
    connect_timeout_ms: time(10_000, "A connection without a CONNECT is dropped after this."),
    offline_retention_ms: time(259_200_000, "Waiting messages are removed after this."),
  }),
});

export type CloudToml = Loaded<typeof cloudTable>;
