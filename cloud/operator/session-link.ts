/** The commander's connection: the agent's own Session, one for each slot that is taken. */
import { readFileSync } from "node:fs";
import {
  passwordAuthenticator,
  Session,
  signatureAuthenticator,
} from "../../agent/connection/connection.ts";
import type { Clock } from "../../agent/core/clock.ts";
import { HoldfastError } from "../../agent/core/errors.ts";
import { limits } from "../../agent/core/limits.ts";
import type { Logger } from "../../agent/core/log.ts";
import type { Random } from "../../agent/core/random.ts";
import { makeP2pTopic } from "../../agent/protocol/topics.ts";
import type { CommanderConfig } from "./commander-config.ts";
import type { Link } from "./link.ts";

/** Answers that may wait to be recorded. */
const INBOUND_BOUND = { messages: 1_000, bytes: 8_388_608 };

export function sessionLink(
  clientId: string,
  config: CommanderConfig,
  deps: { readonly clock: Clock; readonly random: Random; readonly log: Logger },
): Link {
  const { service, topics } = config;
  const { reconnect } = service;
  const tls = readTls(config);
  return new Session(
    {
      clientId,
      endpoints: service.endpoints,
      profile: service.profile,
      keepaliveS: service.keepalive_s,
      // Always: commands and answers wait for those who are away (lmq-protocol 5).
      cleanSession: false,
      connectTimeoutMs: service.connect_timeout_ms,
      ackTimeoutMs: service.ack_timeout_ms,
      reconnect: {
        minMs: reconnect.min_ms,
        maxMs: reconnect.max_ms,
        refusedMinMs: reconnect.refused_min_ms,
        takeoverMinMs: reconnect.takeover_min_ms,
      },
      // LMQ brings P2P without a subscription.
      subscriptions:
        service.profile === "mqtt" ? [{ filter: makeP2pTopic(topics.down, clientId), qos: 1 }] : [],
      inboundBound: INBOUND_BOUND,
      maxPayloadBytes: limits.payloadBytes,
      ...(tls ? { tls } : {}),
    },
    { ...deps, authenticator: authenticatorOf(clientId, config) },
  );
}

function authenticatorOf(clientId: string, { auth, service }: CommanderConfig) {
  const { secret, password } = auth;
  return auth.mode === "signature"
    ? signatureAuthenticator({
        accessKey: auth.access_key,
        secret: () => secret?.reveal() ?? "",
        instanceId: service.instance_id,
        clientId,
      })
    : passwordAuthenticator({
        username: auth.username,
        password: () => password?.reveal() ?? "",
      });
}

function readTls({ tls }: CommanderConfig) {
  const options = {
    ...(tls.ca_file ? { ca: readPem("tls.ca_file", tls.ca_file) } : {}),
    ...(tls.cert_file ? { cert: readPem("tls.cert_file", tls.cert_file) } : {}),
    ...(tls.key_file ? { key: readPem("tls.key_file", tls.key_file) } : {}),
    ...(tls.server_name ? { serverName: tls.server_name } : {}),
  };
  return Object.keys(options).length > 0 ? options : undefined;
}

function readPem(key: string, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new HoldfastError("config_invalid", `${key}: ${path} cannot be read.`, { cause });
  }
}
