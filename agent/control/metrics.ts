/** The metrics that follow from the status report. */
import type { MetricFamily, MetricSample } from "./openmetrics.ts";
import type { StatusLane, StatusReport } from "./status-report.ts";

const connectionStates = [
  "idle",
  "connecting",
  "online",
  "backing-off",
  "refused",
  "stopped",
] as const satisfies readonly StatusReport["connection"]["state"][];

export function metricsOf(status: StatusReport): MetricFamily[] {
  const { outbox, store, commands, connection } = status;
  return [
    one("holdfast", "info", "What runs here.", 1, {
      version: status.version,
      client_id: status.device.clientId,
    }),
    one("holdfast_start_time_seconds", "gauge", "Start of the process.", status.startedAt / 1000),
    {
      name: "holdfast_connection_state",
      type: "stateset",
      help: "The state of the connection to the service.",
      samples: connectionStates.map((state) => ({
        labels: { holdfast_connection_state: state },
        value: connection.state === state ? 1 : 0,
      })),
    },
    one(
      "holdfast_connection_attempts",
      "gauge",
      "Connection attempts since the last lasting connection.",
      connection.attempts,
    ),
    one(
      "holdfast_clock_trusted",
      "gauge",
      "1 when the time is vouched for.",
      +status.clock.trusted,
    ),
    ...laneFamilies(outbox.lanes),
    one("holdfast_outbox_in_flight", "gauge", "Sent, not yet acknowledged.", outbox.inFlight),
    one("holdfast_outbox_quarantined", "gauge", "Messages in quarantine.", outbox.quarantined),
    one("holdfast_outbox_persisted", "counter", "Messages written to disk.", outbox.persisted),
    one("holdfast_outbox_elided", "counter", "Acknowledged before a write.", outbox.elided),
    one("holdfast_store_bytes", "gauge", "Bytes in the state folder.", store.bytes),
    one("holdfast_store_quota_bytes", "gauge", "Bytes it may use.", store.quotaBytes),
    one("holdfast_store_salvages", "counter", "Times a damaged store was saved.", store.salvages),
    one("holdfast_commands_queued", "gauge", "Commands waiting.", commands.queued),
    one("holdfast_commands_running", "gauge", "Commands running.", commands.running),
    one("holdfast_commands_finished", "counter", "Commands ended.", commands.finished),
    one("holdfast_commands_rejected", "counter", "Commands refused.", commands.rejected),
    {
      name: "holdfast_plugin_restarts",
      type: "counter",
      help: "Restarts of a plugin.",
      samples: status.plugins.map(({ name, restarts }) => ({
        labels: { plugin: name },
        value: restarts,
      })),
    },
    one("holdfast_alarms", "gauge", "Alarms that are raised.", status.health.alarms.length),
  ];
}

function one(
  name: string,
  type: MetricFamily["type"],
  help: string,
  value: number,
  labels?: Readonly<Record<string, string>>,
): MetricFamily {
  return { name, type, help, samples: [labels ? { labels, value } : { value }] };
}

function laneFamilies(lanes: Readonly<Record<string, StatusLane>>): MetricFamily[] {
  const perLane = (value: (lane: StatusLane) => number): MetricSample[] =>
    Object.entries(lanes).map(([lane, stats]) => ({ labels: { lane }, value: value(stats) }));
  const dropped = Object.entries(lanes).flatMap(([lane, stats]) =>
    Object.entries(stats.dropped).map(([reason, value]) => ({ labels: { lane, reason }, value })),
  );
  return [
    {
      name: "holdfast_outbox_messages",
      type: "gauge",
      help: "Messages that wait.",
      samples: perLane((stats) => stats.messages),
    },
    {
      name: "holdfast_outbox_bytes",
      type: "gauge",
      help: "Bytes that wait.",
      samples: perLane((stats) => stats.bytes),
    },
    {
      name: "holdfast_outbox_oldest_age_seconds",
      type: "gauge",
      help: "Age of the oldest message that waits.",
      samples: perLane((stats) => stats.oldestAgeMs / 1000),
    },
    {
      name: "holdfast_outbox_dropped",
      type: "counter",
      help: "Messages that a policy let go, by reason.",
      samples: dropped,
    },
  ];
}
