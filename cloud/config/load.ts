/** From cloud.toml, the environment and the options of the command line to the options of the service. */
import { dirname } from "node:path";
import { type Files, loadToml, type Report, systemFiles } from "../../agent/config/config.ts";
import type { CloudLimits, CloudListen, CloudOptions, CloudTimings } from "../service/service.ts";
import { type CloudToml, cloudTable } from "./keys.ts";

/** Where the configuration comes from. */
export interface CloudSources {
  readonly file: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** `section.key=value`, as the options of the command line give them. */
  readonly flags: readonly string[];
  readonly workingFolder: string;
}

export interface CloudConfig {
  readonly options: CloudOptions;
  readonly dataDir: string;
}

/** Throws `config_invalid` or `secret_exposed`, with a line for each problem. */
export function loadCloudConfig(options: CloudSources, files: Files = systemFiles): CloudConfig {
  const { file, environment, flags, workingFolder } = options;
  const { config } = loadToml(
    cloudTable,
    {
      files: [file],
      environment,
      flags,
      credentialsFolder: environment["CREDENTIALS_DIRECTORY"],
      folders: { working: workingFolder, home: environment["HOME"] ?? dirname(file) },
    },
    {
      files,
      finish: (toml, report) => {
        checkAcross(toml, report);
        return toml;
      },
    },
  );
  return { options: toOptions(config, files), dataDir: config.data.dir };
}

function checkAcross(toml: CloudToml, report: Report): void {
  for (const transport of ["mqtts", "wss"] as const) {
    if (toml.listen[transport] > 0 && !(toml.tls.cert_file && toml.tls.key_file)) {
      const message = "it needs a certificate; expected tls.cert_file and tls.key_file too";
      report.wrong([`listen.${transport}`, "tls.cert_file", "tls.key_file"], message);
    }
  }
  for (const [i, account] of toml.accounts.entries()) {
    if (!account.secret) {
      report.wrong([`accounts.${i}.secret`], "an account has no secret; expected one");
    }
  }
}

function toOptions(toml: CloudToml, files: Files): CloudOptions {
  const { instance, accounts, tls } = toml;
  const read = (name: string): string => Buffer.from(files.read(name) ?? []).toString("utf8");
  return {
    listen: toListen(toml.listen),
    ...(tls.cert_file && tls.key_file
      ? { tls: { cert: read(tls.cert_file), key: read(tls.key_file) } }
      : {}),
    directory: {
      accounts: new Map(accounts.map((one) => [one.access_key, one.secret?.reveal() ?? ""])),
      instanceId: instance.id,
      groups: new Set(instance.groups),
      topics: new Map(instance.topics.map(({ name, ordered }) => [name, { ordered }])),
    },
    limits: toLimits(toml),
    timings: toTimings(toml.timings),
  };
}

function toListen({ host, mqtt, mqtts, ws, wss, http }: CloudToml["listen"]): CloudListen {
  return {
    host,
    ...(mqtt > 0 && { mqtt: { port: mqtt } }),
    ...(mqtts > 0 && { mqtts: { port: mqtts } }),
    ...(ws > 0 && { ws: { port: ws } }),
    ...(wss > 0 && { wss: { port: wss } }),
    ...(http > 0 && { http: { port: http } }),
  };
}

function toLimits({ limits, timings }: CloudToml): Partial<CloudLimits> {
  return {
    payloadBytes: limits.payload_bytes,
    topicMax: limits.topic_max,
    subscriptions: limits.subscriptions,
    clientIdMax: limits.client_id_max,
    offlinePerInstance: limits.offline_per_instance,
    connectionsPerAddress: limits.connections_per_address,
    ratePerClient: limits.rate_per_client,
    timestampWindowMs: timings.timestamp_window_ms,
    tokenResources: limits.token_resources,
    tokenMinLifeMs: timings.token_min_life_ms,
    tokenMaxLifeMs: timings.token_max_life_ms,
    tokenAppliesPerSecond: limits.token_applies_per_s,
    tokenQueriesPerSecond: limits.token_queries_per_s,
    tokenRevokesPerMinute: limits.token_revokes_per_min,
    mqPerTopic: limits.mq_per_topic,
    mqUnread: limits.mq_unread,
    mqUnreadPerSecond: limits.mq_unread_per_s,
  };
}

function toTimings(timings: CloudToml["timings"]): CloudTimings {
  return {
    ackTimeoutMs: timings.ack_timeout_ms,
    offlineBatch: timings.offline_batch,
    offlineIntervalMs: timings.offline_interval_ms,
    retryLimit: timings.retry_limit,
    connectTimeoutMs: timings.connect_timeout_ms,
    tokenNoticeAheadMs: timings.token_notice_ahead_ms,
    offlineRetentionMs: timings.offline_retention_ms,
    mqLeaseMs: timings.mq_lease_ms,
  };
}
