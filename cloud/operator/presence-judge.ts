/**
 * Who is online, judged by the notices of lmq-protocol 7.3: a state machine without time or I/O.
 *
 * Notices come at least once and in any order, so every one is stored first and judged then: a
 * channel is open when its `connect` came and no `disconnect` or `tcpclean` of the same channel. An
 * end that comes before its `connect` counts, and the end of one channel says nothing of another.
 *
 * A channel that ended stays as a tombstone, so that a late duplicate of its `connect` does not
 * bring it back to life: at least until `prune` is told a time at which the service keeps no
 * notice of it any more. Bounds: `CHANNELS` ended channels of one client and `clients` clients; over
 * these the one that was heard of the longest ago is forgotten, and an ended one before an open one.
 */
import { isJsonObject, type JsonValue } from "../../agent/core/json.ts";

export interface PresenceEvent {
  readonly clientId: string;
  readonly channelId: string;
  readonly eventType: "connect" | "disconnect" | "tcpclean";
  /** Unix milliseconds of the service. */
  readonly time: number;
}

export interface Judgement {
  readonly online: boolean;
  /** Open channels; more than one hints at two devices with one client id. */
  readonly connections: number;
  /** When the youngest open channel was opened, or the last one ended. */
  readonly since: number;
}

interface Channel {
  connectedAt: number | undefined;
  endedAt: number | undefined;
}

/** Ended channels of one client. */
const CHANNELS = 256;

export class PresenceJudge {
  readonly #maxClients: number;
  readonly #clients = new Map<string, Map<string, Channel>>();

  constructor(options: { readonly clients: number }) {
    this.#maxClients = options.clients;
  }

  get clients(): number {
    return this.#clients.size;
  }

  add({ clientId, channelId, eventType, time }: PresenceEvent): void {
    const channels = this.#channelsOf(clientId);
    const channel = channels.get(channelId) ?? { connectedAt: undefined, endedAt: undefined };
    // Of duplicates, and of the two ends of one channel, the earliest counts.
    if (eventType === "connect") channel.connectedAt = Math.min(channel.connectedAt ?? time, time);
    else channel.endedAt = Math.min(channel.endedAt ?? time, time);
    channels.delete(channelId);
    channels.set(channelId, channel);
    if (channels.size > CHANNELS) forgetOne(channels);
  }

  /** Undefined for a client of which nothing was heard. */
  judge(clientId: string): Judgement | undefined {
    const channels = this.#clients.get(clientId);
    if (!channels) return undefined;
    let connections = 0;
    let openedAt = Number.NEGATIVE_INFINITY;
    let endedAt = Number.NEGATIVE_INFINITY;
    for (const channel of channels.values()) {
      if (isOpen(channel)) {
        connections++;
        openedAt = Math.max(openedAt, channel.connectedAt ?? openedAt);
      } else endedAt = Math.max(endedAt, channel.endedAt ?? endedAt);
    }
    const online = connections > 0;
    return { online, connections, since: online ? openedAt : endedAt };
  }

  /** Forgets tombstones from before `time`: no notice as old as that can still come. */
  prune(time: number): void {
    for (const [clientId, channels] of this.#clients) {
      for (const [channelId, channel] of channels) {
        if (channel.endedAt !== undefined && channel.endedAt < time) channels.delete(channelId);
      }
      if (channels.size === 0) this.#clients.delete(clientId);
    }
  }

  /** Forgets the clients whose ids begin so. */
  forget(prefix: string): void {
    for (const clientId of this.#clients.keys()) {
      if (clientId.startsWith(prefix)) this.#clients.delete(clientId);
    }
  }

  /** Everything it knows, for a file; `load` takes it back. */
  save(): JsonValue {
    return [...this.#clients].map(([clientId, channels]) => [
      clientId,
      [...channels].map(([id, { connectedAt, endedAt }]) => [
        id,
        connectedAt ?? null,
        endedAt ?? null,
      ]),
    ]);
  }

  /** False for what is not of `save`; then nothing was taken. */
  load(saved: unknown): boolean {
    if (!Array.isArray(saved)) return false;
    const clients = new Map<string, Map<string, Channel>>();
    for (const client of saved as readonly unknown[]) {
      const [clientId, list] = Array.isArray(client) ? (client as readonly unknown[]) : [];
      if (typeof clientId !== "string" || !Array.isArray(list)) return false;
      const channels = new Map<string, Channel>();
      for (const one of list as readonly unknown[]) {
        const [id, connectedAt, endedAt] = Array.isArray(one) ? (one as readonly unknown[]) : [];
        if (typeof id !== "string" || !isTime(connectedAt) || !isTime(endedAt)) return false;
        channels.set(id, { connectedAt: connectedAt ?? undefined, endedAt: endedAt ?? undefined });
      }
      clients.set(clientId, channels);
    }
    this.#clients.clear();
    for (const [clientId, channels] of clients) this.#clients.set(clientId, channels);
    return true;
  }

  /** Moves the client to the end of the order in which clients are forgotten. */
  #channelsOf(clientId: string): Map<string, Channel> {
    const channels = this.#clients.get(clientId) ?? new Map<string, Channel>();
    this.#clients.delete(clientId);
    this.#clients.set(clientId, channels);
    const [oldest] = this.#clients.keys();
    if (this.#clients.size > this.#maxClients && oldest !== undefined) {
      this.#clients.delete(oldest);
    }
    return channels;
  }
}

/** Undefined for what is no notice of the form of lmq-protocol 7.3. */
export function readPresenceEvent(value: unknown): PresenceEvent | undefined {
  if (!isJsonObject(value)) return undefined;
  const { clientId, channelId, eventType, time } = value;
  if (typeof clientId !== "string" || clientId === "") return undefined;
  if (typeof channelId !== "string" || channelId === "") return undefined;
  if (typeof time !== "number" || !Number.isSafeInteger(time)) return undefined;
  if (eventType !== "connect" && eventType !== "disconnect" && eventType !== "tcpclean") {
    return undefined;
  }
  return { clientId, channelId, eventType, time };
}

function isOpen({ connectedAt, endedAt }: Channel): boolean {
  return connectedAt !== undefined && endedAt === undefined;
}

/** The ended channel that was heard of the longest ago, or where all are open the first of those. */
function forgetOne(channels: Map<string, Channel>): void {
  let victim: string | undefined;
  for (const [id, channel] of channels) {
    victim ??= id;
    if (isOpen(channel)) continue;
    victim = id;
    break;
  }
  if (victim !== undefined) channels.delete(victim);
}

function isTime(value: unknown): value is number | null {
  return value === null || Number.isSafeInteger(value);
}
