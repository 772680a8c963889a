/**
 * The health report (surface 5) from facts: a pure function. Whatever the facts are, the report is
 * well-formed (report.schema.json) and under 2 KB: strings are cut, numbers are finite, and when it
 * is too large, parts are left out in the order of `cuts`; `trimmed` names them.
 */
import { limits } from "../core/limits.ts";
import type { RaisedAlarm } from "./alarms.ts";
import type { SystemFacts } from "./probes.ts";

export interface LaneFacts {
  readonly messages: number;
  readonly bytes: number;
  readonly oldestAgeMs: number;
  readonly dropped: Readonly<Record<string, number>>;
}

/** What the parts of the agent know; null: a part could not say. */
export interface ReportFacts {
  /** Unix milliseconds. */
  readonly at: number;
  readonly nonce: string;
  readonly clock: {
    readonly trusted: boolean;
    readonly source: string;
    readonly offsetMs: number | null;
  } | null;
  readonly agent: {
    readonly version: string;
    readonly uptimeS: number;
    readonly bootId: string;
    readonly restarts: number;
    /** How the last run ended, in a few words. */
    readonly lastExit: string | null;
  } | null;
  readonly system: SystemFacts | null;
  readonly connection: {
    readonly since: number;
    readonly attempts: number;
    readonly lastError: { readonly code: string; readonly message: string } | null;
  } | null;
  readonly outbox: { readonly lanes: Readonly<Record<string, LaneFacts>> } | null;
  readonly commands: {
    readonly queued: number;
    readonly running: number;
    readonly finished: number;
    readonly rejected: number;
  } | null;
  readonly plugins:
    | readonly {
        readonly name: string;
        readonly version: string;
        readonly state: string;
        readonly restarts: number;
      }[]
    | null;
  readonly alarms: readonly RaisedAlarm[];
  readonly credentials: { readonly expiresAt: number | null } | null;
}

type Draft = ReturnType<typeof draft>;
export type Report = Partial<Draft> & { readonly v: 1; readonly trimmed?: readonly string[] };

const mostListed = 32;
const mostAlarms = 5;

/** From what is missed least to what is missed most. What they leave always fits. */
const cuts: readonly { readonly name: string; cut(report: Draft): Partial<Draft> }[] = [
  { name: "outbox.idle", cut: ({ outbox }) => ({ outbox: outbox && busyLanes(outbox) }) },
  { name: "plugins.running", cut: ({ plugins }) => ({ plugins: plugins && notRunning(plugins) }) },
  { name: "connection.message", cut: ({ connection }) => ({ connection: codeOnly(connection) }) },
  { name: "alarms.rest", cut: ({ alarms }) => ({ alarms: alarms.slice(0, mostAlarms) }) },
  { name: "plugins", cut: () => ({ plugins: null }) },
  { name: "outbox.lanes", cut: ({ outbox }) => ({ outbox: outbox && sumOfLanes(outbox) }) },
  { name: "alarms", cut: () => ({ alarms: [] }) },
  { name: "system", cut: () => ({ system: null }) },
];

export function buildReport(facts: ReportFacts): Report {
  let report: Draft & { trimmed?: readonly string[] } = draft(facts);
  for (const { name, cut } of cuts) {
    if (sizeOf(report) < limits.healthReportBytes) break;
    report = { ...report, ...cut(report), trimmed: [...(report.trimmed ?? []), name] };
  }
  return report;
}

function draft(facts: ReportFacts) {
  const { clock, agent, system, connection, outbox, commands, plugins, credentials } = facts;
  return {
    v: 1 as const,
    at: whole(facts.at),
    clock: clock && {
      trusted: clock.trusted === true,
      source: text(clock.source, 32),
      offsetMs: wholeOrNull(clock.offsetMs),
    },
    nonce: text(facts.nonce, 64),
    agent: agent && {
      version: text(agent.version, 32),
      uptimeS: whole(agent.uptimeS),
      bootId: text(agent.bootId, 48),
      restarts: whole(agent.restarts),
      lastExit: agent.lastExit === null ? null : text(agent.lastExit, 100),
    },
    system: system && systemPart(system),
    connection: connection && {
      since: whole(connection.since),
      attempts: whole(connection.attempts),
      lastError: connection.lastError && {
        code: text(connection.lastError.code, 48),
        message: text(connection.lastError.message, 120),
      },
    },
    outbox: outbox && { lanes: lanesPart(outbox.lanes) },
    commands: commands && {
      queued: whole(commands.queued),
      running: whole(commands.running),
      finished: whole(commands.finished),
      rejected: whole(commands.rejected),
    },
    plugins: plugins?.slice(0, mostListed).map(pluginPart) ?? null,
    alarms: worstFirst(facts.alarms)
      .slice(0, mostListed)
      .map(({ alarm, severity, at }) => ({ alarm: text(alarm, 64), severity, at: whole(at) })),
    credentials: credentials && { expiresAt: wholeOrNull(credentials.expiresAt) },
  };
}

function pluginPart(plugin: NonNullable<ReportFacts["plugins"]>[number]) {
  return {
    name: text(plugin.name, 40),
    version: text(plugin.version, 32),
    state: text(plugin.state, 16),
    restarts: whole(plugin.restarts),
  };
}

function systemPart({ cpu, mem, disk, tempC }: SystemFacts) {
  return {
    cpu: cpu && { loadPercent: tenth(cpu.loadPercent), cores: whole(cpu.cores) },
    mem: mem && bytesPart(mem),
    disk: disk && bytesPart(disk),
    tempC: tempC === null || !Number.isFinite(tempC) ? null : tenth(tempC),
  };
}

function bytesPart(part: { readonly totalBytes: number; readonly availableBytes: number }) {
  return { totalBytes: whole(part.totalBytes), availableBytes: whole(part.availableBytes) };
}

type LanePart = { messages: number; bytes: number; oldestAgeMs: number; dropped: number };

function lanesPart(lanes: Readonly<Record<string, LaneFacts>>): Record<string, LanePart> {
  const parts = Object.entries(lanes)
    .slice(0, mostListed)
    .map(([name, lane]) => [text(name, 40), lanePart(lane)] as const);
  return Object.fromEntries(parts);
}

function lanePart({ messages, bytes, oldestAgeMs, dropped }: LaneFacts): LanePart {
  return {
    messages: whole(messages),
    bytes: whole(bytes),
    oldestAgeMs: whole(oldestAgeMs),
    dropped: sum(Object.values(dropped)),
  };
}

function busyLanes(outbox: NonNullable<Draft["outbox"]>): NonNullable<Draft["outbox"]> {
  const busy = Object.entries(outbox.lanes).filter(([, lane]) => lane.messages + lane.dropped > 0);
  return { lanes: Object.fromEntries(busy) };
}

function sumOfLanes(outbox: NonNullable<Draft["outbox"]>): NonNullable<Draft["outbox"]> {
  const lanes = Object.values(outbox.lanes);
  const all: LanePart = {
    messages: sum(lanes.map(({ messages }) => messages)),
    bytes: sum(lanes.map(({ bytes }) => bytes)),
    oldestAgeMs: Math.max(0, ...lanes.map(({ oldestAgeMs }) => oldestAgeMs)),
    dropped: sum(lanes.map(({ dropped }) => dropped)),
  };
  return { lanes: { "*": all } };
}

function notRunning(plugins: NonNullable<Draft["plugins"]>): NonNullable<Draft["plugins"]> {
  return plugins.filter(({ state }) => state !== "running");
}

function codeOnly(connection: Draft["connection"]): Draft["connection"] {
  if (!connection?.lastError) return connection;
  return { ...connection, lastError: { ...connection.lastError, message: "" } };
}

const rank = { critical: 0, warning: 1, info: 2 };

function worstFirst(alarms: readonly RaisedAlarm[]): readonly RaisedAlarm[] {
  return [...alarms].sort((a, b) => rank[a.severity] - rank[b.severity] || b.at - a.at);
}

function sizeOf(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}

/** At most `most` bytes of JSON, quotes not counted: a control character alone can take six. */
function text(value: unknown, most: number): string {
  let cut = String(value).slice(0, most);
  while (sizeOf(cut) - 2 > most) cut = cut.slice(0, -1);
  return cut;
}

function whole(value: number): number {
  if (!Number.isFinite(value)) return 0;
  return Math.round(Math.min(Math.max(value, Number.MIN_SAFE_INTEGER), Number.MAX_SAFE_INTEGER));
}

function wholeOrNull(value: number | null): number | null {
  return value === null ? null : whole(value);
}

function tenth(value: number): number {
  return whole(Math.min(Math.max(value, -1e9), 1e9) * 10) / 10;
}

function sum(values: readonly number[]): number {
  return whole(values.reduce((total, value) => total + whole(value), 0));
}
