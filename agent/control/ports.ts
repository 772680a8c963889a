/** What the local API needs of the agent; `agent.ts` fits it. */
import type { JsonObject } from "../core/json.ts";
import type { OutgoingMessage, Receipt } from "../core/message.ts";
import type { MetricFamily } from "./openmetrics.ts";
import type { StatusReport } from "./status-report.ts";

export interface ControlPorts {
  /** As `Outgoing.put`: resolves when the message is safe, throws its errors. */
  put(message: OutgoingMessage): Promise<Receipt>;
  status(): StatusReport | Promise<StatusReport>;
  health(): Healthiness;
  /** What a part counts beyond the status report; those of the report are made here. */
  metrics?(): readonly MetricFamily[];
  /** A list that is not built yet may be left out and answers as an empty one. */
  readonly lists: Partial<Readonly<Record<ListName, ListPort>>>;
  readonly quarantine?: QuarantinePort;
  /** One command of the journal with all that is known of it; undefined: no such id. */
  command?(id: string): Promise<JsonObject | undefined>;
}

/** The verbs of the quarantine; without an id they mean all of it. */
export interface QuarantinePort {
  /** Tries the message's topic again at once; gives how many messages wait for that. */
  retry(id?: string): number;
  /** Lets it go for good; gives how many went. */
  drop(id?: string): Promise<number>;
}

export const listNames = ["outbox", "quarantine", "commands", "plugins", "jobs"] as const;
export type ListName = (typeof listNames)[number];

export type ListPort = (page: PageRequest) => Page | Promise<Page>;

export interface PageRequest {
  /** What the page before gave as `next`; undefined is the first page. */
  readonly cursor: string | undefined;
  /** 1 to 1,000 items. */
  readonly limit: number;
}

export interface Page {
  readonly items: readonly JsonObject[];
  readonly next: string | null;
}

export interface Healthiness {
  /** True while the agent can store and run commands, online or not. */
  readonly ok: boolean;
  /** One sentence each; empty when ok. */
  readonly reasons: readonly string[];
}

/** A command of the journal; `GET /v1/commands/ID` gives it with `params`, `reply` and the rest. */
export type CommandItem = {
  readonly id: string;
  readonly command: string;
  readonly from: string;
  readonly kid: string | null;
  /** `admitted`, `running` or a final status. */
  readonly status: string;
  readonly admittedAt: number;
  readonly finishedAt: number | null;
};

/** Cursors for a list that fits in memory: the place in it. A foreign cursor is the first page. */
export function pageOf(items: readonly JsonObject[], { cursor, limit }: PageRequest): Page {
  const from = cursor !== undefined && /^\d{1,9}$/.test(cursor) ? Number(cursor) : 0;
  const end = from + limit;
  return { items: items.slice(from, end), next: end < items.length ? String(end) : null };
}
