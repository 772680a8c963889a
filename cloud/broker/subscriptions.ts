import { parentOf, parseP2pTopic, topicMatches } from "../../agent/protocol/topics.ts";
import type { Qos } from "../storage/storage.ts";

/** What a topic's subscription gives one client. */
export interface Match {
  /** The largest QoS granted by the filters that match [MQTT-3.3.5-1]. */
  qos: Qos;
  /** One of the filters was granted QoS 1: the only ones that keep messages (lmq-protocol 1.4). */
  keeps: boolean;
}

interface Parent {
  /** By filter; literal ones and those with wildcards apart. */
  readonly exact: Map<string, Map<string, Qos>>;
  readonly wild: Map<string, Map<string, Qos>>;
}

/**
 * Who subscribed to what, over all sessions. The parent level is literal, so the parents share
 * nothing, and the wildcard filters of one parent are at most `wildcardsPerParent` (lmq-protocol
 * 1.2): few enough to try one by one.
 */
export class Subscriptions {
  readonly #wildcardsPerParent: number;
  readonly #parents = new Map<string, Parent>();

  constructor(wildcardsPerParent: number) {
    this.#wildcardsPerParent = wildcardsPerParent;
  }

  /** False when the parent has too many wildcard filters; nothing changed then. */
  add(clientId: string, filter: string, qos: Qos): boolean {
    const parent = this.#parent(parentOf(filter));
    const isWild = /[+#]/.test(filter);
    const byFilter = isWild ? parent.wild : parent.exact;
    let clients = byFilter.get(filter);
    if (!clients) {
      if (isWild && byFilter.size >= this.#wildcardsPerParent) return false;
      clients = new Map();
      byFilter.set(filter, clients);
    }
    clients.set(clientId, qos);
    return true;
  }

  remove(clientId: string, filter: string): void {
    const parentName = parentOf(filter);
    const parent = this.#parents.get(parentName);
    for (const byFilter of parent ? [parent.exact, parent.wild] : []) {
      const clients = byFilter.get(filter);
      clients?.delete(clientId);
      if (clients?.size === 0) byFilter.delete(filter);
    }
    if (parent && parent.exact.size + parent.wild.size === 0) this.#parents.delete(parentName);
  }

  /** By client id. Not asked for P2P topics: no filter takes those (surface: P2P). */
  match(topic: string): ReadonlyMap<string, Match> {
    const parent = this.#parents.get(parentOf(topic));
    const matches = new Map<string, Match>();
    if (!parent) return matches;
    collect(parent.exact.get(topic), matches);
    for (const [filter, clients] of parent.wild) {
      if (topicMatches(filter, topic)) collect(clients, matches);
    }
    return matches;
  }

  #parent(name: string): Parent {
    let parent = this.#parents.get(name);
    if (!parent) {
      parent = { exact: new Map(), wild: new Map() };
      this.#parents.set(name, parent);
    }
    return parent;
  }
}

/** Whom a P2P topic addresses; empty for one that is P2P by its second level but names nobody. */
export function p2pTarget(topic: string): string | undefined {
  return isP2p(topic) ? (parseP2pTopic(topic)?.clientId ?? "") : undefined;
}

/** lmq-protocol 5: the second level is exactly `p2p`. */
function isP2p(topic: string): boolean {
  const slash = topic.indexOf("/");
  return (
    slash >= 0 &&
    topic.startsWith("p2p", slash + 1) &&
    (topic.length === slash + 4 || topic[slash + 4] === "/")
  );
}

function collect(clients: ReadonlyMap<string, Qos> | undefined, into: Map<string, Match>): void {
  for (const [clientId, qos] of clients ?? []) {
    const match = into.get(clientId);
    if (!match) into.set(clientId, { qos, keeps: qos === 1 });
    else {
      if (qos > match.qos) match.qos = qos;
      match.keeps ||= qos === 1;
    }
  }
}
