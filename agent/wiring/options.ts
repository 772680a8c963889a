/** From the configuration's keys to the options of the parts. Pure, but for reading PEM files. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { CommandsOptions } from "../commands/commands.ts";
import type { Config } from "../config/config.ts";
import {
  type Authenticator,
  passwordAuthenticator,
  type SessionOptions,
  signatureAuthenticator,
} from "../connection/connection.ts";
import { HoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";
import type { LaneOptions, OutboxOptions } from "../outbox/outbox.ts";
import { type ClientId, parseClientId } from "../protocol/client-id.ts";
import { checkPublishTopic, makeP2pTopic } from "../protocol/topics.ts";
import type { DatabaseStoreOptions } from "../store/store.ts";

const MB = 1_048_576;
/** On a full disk LevelDB needs half of it to be opened and to delete; alarms and replies have the rest. */
const BALLAST_BYTES = 4 * MB;
/** LevelDB makes and deletes files all the time. */
const KEEP_FREE_INODES = 64;
/** Commands that may wait for their admission before the socket is paused. */
const INBOUND = { messages: 1_024, bytes: 8 * MB };

export interface Topics {
  readonly health: string;
  readonly alarm: string;
  readonly gap: string;
}

export interface Identity {
  readonly clientId: ClientId;
  /** Where commands for this device arrive. */
  readonly p2pTopic: string;
  readonly topics: Topics;
}

export function identity(config: Config): Identity {
  const clientId = parseClientId(config.device.client_id, config.service.profile);
  return {
    clientId,
    p2pTopic: makeP2pTopic(config.topics.down, clientId.text),
    topics: {
      health: `${config.topics.up}/health/${clientId.device}`,
      alarm: `${config.topics.up}/alarm/${clientId.device}`,
      gap: `${config.topics.up}/gap/${clientId.device}`,
    },
  };
}

/** Throws `config_invalid` for what this release does not do yet. */
export function checkSupported(config: Config): void {
  const missing: string[] = [];
  const { mode } = config.auth;
  if (mode !== "signature" && mode !== "password") missing.push(`auth.mode = "${mode}"`);
  if (config.service.proxy !== "") missing.push("service.proxy");
  if (config.commands.keys.length > 0) missing.push("[[commands.keys]] (signed commands)");
  for (const endpoint of config.service.endpoints) {
    if (/^wss?:/.test(endpoint)) missing.push(`the endpoint ${endpoint} (WebSocket)`);
  }
  for (const [name, lane] of Object.entries(config.outbox.lanes)) {
    // A commander reads replies as they are (design 5); wrapped, no command would end for it.
    if (name === "reply" && lane.payload !== "raw") {
      missing.push(`outbox.lanes.reply.payload = "${lane.payload}"`);
    }
  }
  if (missing.length === 0) return;
  const what = missing.join(", ");
  throw new HoldfastError("config_invalid", `This release does not support ${what} yet.`);
}

export function authenticator(config: Config): Authenticator {
  const { auth, service, device } = config;
  if (auth.mode === "password") {
    const { password } = auth;
    return passwordAuthenticator({
      ...(auth.username !== "" && { username: auth.username }),
      ...(password !== undefined && { password: () => password.reveal() }),
    });
  }
  return signatureAuthenticator({
    accessKey: auth.access_key,
    secret: () => auth.secret?.reveal() ?? "",
    instanceId: service.instance_id,
    clientId: device.client_id,
  });
}

export function sessionOptions(config: Config, { p2pTopic }: Identity): SessionOptions {
  const { service, tls } = config;
  const { reconnect } = service;
  const pem = (path: string): string | undefined => (path === "" ? undefined : readPem(path));
  const ca = pem(tls.ca_file);
  const cert = pem(tls.cert_file);
  const key = pem(tls.key_file);
  return {
    clientId: config.device.client_id,
    endpoints: service.endpoints,
    profile: service.profile,
    keepaliveS: service.keepalive_s,
    cleanSession: service.clean_session,
    connectTimeoutMs: service.connect_timeout_ms,
    ackTimeoutMs: service.ack_timeout_ms,
    reconnect: {
      minMs: reconnect.min_ms,
      maxMs: reconnect.max_ms,
      refusedMinMs: reconnect.refused_min_ms,
      takeoverMinMs: reconnect.takeover_min_ms,
    },
    // lmq-protocol 5: P2P needs no subscription there; a standard broker knows no P2P.
    subscriptions: service.profile === "mqtt" ? [{ filter: p2pTopic, qos: 1 }] : [],
    tls: {
      ...(ca !== undefined && { ca }),
      ...(cert !== undefined && { cert }),
      ...(key !== undefined && { key }),
      ...(tls.server_name !== "" && { serverName: tls.server_name }),
    },
    inboundBound: INBOUND,
    maxPayloadBytes: limits.payloadBytes,
  };
}

export function storeOptions({ state }: Config): DatabaseStoreOptions {
  return {
    dir: state.dir,
    ballastBytes: BALLAST_BYTES,
    degraded: true,
    space: {
      quotaBytes: state.quota_mb * MB,
      keepFreeBytes: state.keep_free_mb * MB,
      keepFreeInodes: KEEP_FREE_INODES,
    },
  };
}

export function outboxOptions(config: Config, bootId: string, { topics }: Identity): OutboxOptions {
  const { outbox, service } = config;
  const lanes: Record<string, LaneOptions> = {};
  for (const [name, lane] of Object.entries(outbox.lanes)) {
    lanes[name] = {
      priority: lane.priority,
      maxMessages: lane.max_messages,
      maxBytes: Math.floor(lane.max_mb * MB),
      ttlMs: lane.ttl_s * 1_000,
      whenFull: lane.when_full,
      share: lane.share,
      keep: lane.keep,
      payload: lane.payload,
    };
  }
  return {
    lanes,
    persistDelayMs: outbox.persist_delay_ms,
    settleEvery: outbox.settle_every,
    checkTopic: (topic) => checkPublishTopic(topic, service.topic_max),
    bootId,
    clientId: config.device.client_id,
    gaps: { topic: topics.gap, lane: "event" },
  };
}

export function commandsOptions(
  config: Config,
  run: Pick<CommandsOptions, "runId" | "bootId" | "concurrency" | "readsOnly">,
): CommandsOptions {
  const { commands, topics, service, device } = config;
  return {
    clientId: device.client_id,
    profile: service.profile,
    up: topics.up,
    down: topics.down,
    topicMax: service.topic_max,
    allowUnsigned: commands.allow_unsigned,
    replyTo: commands.reply_to,
    replyRate: commands.reply_rate,
    maxQueued: commands.max_queued,
    ...run,
  };
}

export function controlDir(config: Config): string {
  return config.control.dir === "" ? join(config.state.dir, "control") : config.control.dir;
}

function readPem(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new HoldfastError("config_invalid", `The file ${path} cannot be read.`, { cause });
  }
}
