/** What the agent's parts tell the local API and the health report. */
import type { Commands } from "../commands/commands.ts";
import type { Config } from "../config/config.ts";
import type { Session } from "../connection/connection.ts";
import {
  type CommandItem,
  type ControlPorts,
  type Healthiness,
  type Page,
  type PageRequest,
  pageOf,
  type StatusReport,
} from "../control/control.ts";
import type { Clock } from "../core/clock.ts";
import type { JsonObject } from "../core/json.ts";
import type { Alarms, Health, HealthSources } from "../health/health.ts";
import type { Host } from "../host/host.ts";
import type { DurableOutbox, Forwarder } from "../outbox/outbox.ts";
import type { Schedule } from "../schedule/schedule.ts";
import type { ClockTruster } from "../service/service.ts";
import type { DatabaseStore } from "../store/store.ts";
import type { PastRuns } from "./run-record.ts";
import { storeTrouble, writeTrouble } from "./store-trouble.ts";

export interface Parts {
  readonly config: Config;
  readonly version: string;
  readonly bootId: string;
  readonly clock: Clock;
  readonly truster: ClockTruster;
  readonly store: DatabaseStore;
  readonly outbox: DurableOutbox;
  readonly alarms: Alarms;
  readonly schedule: Schedule;
  readonly host: Host;
  readonly commands: Commands;
  readonly session: Session;
  /** As given at the start. */
  readonly acceptsSessionChange: boolean;
  readonly forwarder: Forwarder;
  readonly health: Health;
  /** Known from the start on. */
  /** Resolves when a store that could not be opened at the start can be opened now. */
  readonly recoverable: Promise<void>;
  readonly started: { readonly wallMs: number; readonly monotonicMs: number; past: PastRuns };
}

const MB = 1_048_576;

export function healthSources(parts: () => Parts): HealthSources {
  return {
    agent: () => {
      const { version, started, bootId, clock } = parts();
      const uptimeS = Math.floor((clock.monotonicMs() - started.monotonicMs) / 1_000);
      return { version, uptimeS, bootId, ...started.past };
    },
    clock: () => ({ ...parts().truster.state(), offsetMs: null }),
    connection: () => {
      const { since, attempts, lastError } = parts().session.info();
      return { since, attempts, lastError: lastError ?? null };
    },
    outbox: () => parts().outbox.stats(),
    commands: () => parts().commands.stats(),
    plugins: () => parts().host.list(),
    credentials: () => ({ expiresAt: null }), // Signatures and passwords have no end.
    alarms: () => parts().alarms.list(),
  };
}

export function controlPorts(parts: Parts): ControlPorts {
  const { outbox, host, schedule, commands } = parts;
  return {
    put: (message) => outbox.put(message),
    status: () => statusReport(parts),
    health: () => healthiness(parts),
    metrics: () => [
      {
        name: "holdfast_forwarder_resent",
        type: "counter",
        help: "Messages sent again after a connection ended.",
        samples: [{ value: parts.forwarder.resent }],
      },
    ],
    quarantine: outbox.quarantine,
    lists: {
      outbox: (page) => outbox.list(page.cursor, page.limit),
      quarantine: (page) => outbox.quarantine.list(page.cursor, page.limit),
      commands: (page) => listCommands(commands, page),
      plugins: (page) => pageOf(host.list().map(toJson), page),
      jobs: (page) => pageOf(schedule.list().map(toJson), page),
    },
    command: async (id) => {
      const [newest] = await commands.get(id);
      return newest && toJson(newest);
    },
  };
}

async function statusReport(parts: Parts): Promise<StatusReport> {
  const { config, version, session, outbox, store, commands, host, health, alarms } = parts;
  const { state, endpoint, since, attempts, lastError } = session.info();
  const { queued, running, finished, rejected } = commands.stats();
  return {
    version,
    startedAt: parts.started.wallMs,
    device: { clientId: config.device.client_id },
    connection: { state, endpoint, since, attempts, lastError: lastError ?? null },
    credentials: { mode: config.auth.mode, expiresAt: null, renewedAt: null },
    clock: { ...parts.truster.state(), offsetMs: null },
    outbox: outbox.stats(),
    store: {
      state: store.state,
      bytes: store.room?.usedBytes ?? (await store.size()),
      quotaBytes: config.state.quota_mb * MB,
      salvages: store.salvages,
      aside: await store.aside(),
      trouble: storeTrouble(store) ?? null,
    },
    commands: { queued, running, finished, rejected },
    plugins: host.list().map(({ name, version: its, isolation, state: now, restarts }) => {
      return { name, version: its, isolation, state: now, restarts };
    }),
    health: { status: health.status(), alarms: alarms.list() },
  };
}

/** Short of room is healthy while alarms and commands are taken; the reason is told all the same. */
function healthiness({ store }: Parts): Healthiness {
  const trouble = storeTrouble(store);
  const ok = writeTrouble(store) === undefined && store.shortFrom > 1;
  return { ok, reasons: trouble === undefined ? [] : [trouble] };
}

async function listCommands(commands: Commands, { cursor, limit }: PageRequest): Promise<Page> {
  const before = cursor !== undefined && /^\d{1,15}$/.test(cursor) ? Number(cursor) : undefined;
  const { items, next } = await commands.list({
    ...(before !== undefined && { cursor: before }),
    limit,
  });
  const shown = items.map((record): CommandItem => {
    const { id, command, from, kid, state, status, admittedAt, finishedAt } = record;
    return {
      id,
      command,
      from,
      kid: kid ?? null,
      status: status ?? (state === "queued" ? "admitted" : state),
      admittedAt,
      finishedAt: finishedAt ?? null,
    };
  });
  return { items: shown, next: next === null ? null : String(next) };
}

/** Plain data of ours as JSON. */
function toJson(value: object): JsonObject {
  return JSON.parse(JSON.stringify(value)) as JsonObject;
}
