/**
 * From one accepted PUBLISH to those who get it: the target of a P2P message (lmq-protocol 5), or
 * the subscribers of its topic. What must survive goes to the storage first, and `done` is called
 * when it is safe; who is online gets it at once, before the disk has it, because its sender, not
 * having been answered, would send it again after a crash.
 *
 * What is kept (lmq-protocol 1.4): for a subscription of QoS 1 of a persistent session, QoS 1 and
 * above; for P2P, QoS 1 from a sender whose own session is persistent. A QoS 2 flow to a client
 * that is online is not kept: it counts as a clean one.
 */

import type { Clock } from "../../agent/core/clock.ts";
import { type Directory, mayReceive } from "../access/access.ts";
import type { CloudStorage, Done, Qos } from "../storage/storage.ts";
import type { BrokerStats } from "./options.ts";
import type { Session, Sessions } from "./sessions.ts";
import { type Match, p2pTarget } from "./subscriptions.ts";

export interface Publication {
  readonly topic: string;
  /** May be a view of a larger buffer; it is copied where it is kept. */
  readonly payload: Uint8Array;
  readonly qos: Qos;
  /** Whether P2P of QoS 1 waits for a target that is offline: the sender's session persists. */
  readonly keep: boolean;
  /** Of a client's publish: it reaches the MQ side too. */
  readonly sender?: Sender;
  /** What receivers see instead of the topic (lmq-protocol 8, `mqttRealTopic`). */
  readonly shownTopic?: string | undefined;
}

export interface Sender {
  readonly clientId: string;
  readonly clean: boolean;
  /** It asked for the order of its messages (lmq-protocol 8). */
  readonly ordered: boolean;
}

/** The MQ side, which keeps what clients publish. */
export interface MqTap {
  /** Whether it keeps a message on this topic, and makes its sender wait; asked once for each. */
  wants(topic: string, qos: Qos): "no" | "kept" | "safe";
  /** `done` is undefined where nobody waits. */
  published(message: Publication, sender: Sender, done: Done | undefined): void;
}

export interface RouterDeps {
  readonly sessions: Sessions;
  readonly storage: CloudStorage;
  readonly clock: Clock;
  readonly stats: BrokerStats;
  readonly directory: () => Directory;
  readonly mq: MqTap | undefined;
}

export class Router {
  readonly #deps: RouterDeps;

  constructor(deps: RouterDeps) {
    this.#deps = deps;
  }

  /** `done` is called when nothing more can be lost; at once where nothing is kept. */
  route(publication: Publication, done: Done): void {
    const target = p2pTarget(publication.topic);
    const waiting = new Waiting(done);
    if (target !== undefined) this.#direct(target, publication, waiting);
    else this.#subscribers(publication, waiting);
    const { sender, qos, topic } = publication;
    const { mq } = this.#deps;
    const wanted = (sender && mq?.wants(topic, qos)) ?? "no";
    if (sender && mq && wanted !== "no") {
      mq.published(publication, sender, wanted === "safe" ? waiting.begin() : undefined);
    }
    waiting.finish();
  }

  #direct(clientId: string, publication: Publication, waiting: Waiting): void {
    const { sessions, directory } = this.#deps;
    const { qos } = publication;
    const kept = qos === 1 && publication.keep && mayReceive(directory(), clientId);
    const message = { ...publication, payload: new Uint8Array(publication.payload) };
    this.#give(clientId, sessions.get(clientId), message, { kept, direct: true }, waiting);
  }

  #subscribers(publication: Publication, waiting: Waiting): void {
    const matches = this.#deps.sessions.match(publication.topic);
    if (matches.size === 0) return;
    const payload = new Uint8Array(publication.payload);
    for (const [clientId, match] of matches) {
      const session = this.#deps.sessions.get(clientId);
      if (!session) continue;
      const qos = effectiveQos(publication.qos, match, session);
      const kept = qos === 1 && match.keeps && !session.clean;
      const message = { ...publication, payload, qos };
      this.#give(clientId, session, message, { kept, direct: false }, waiting);
    }
  }

  #give(
    clientId: string,
    session: Session | undefined,
    message: Publication,
    how: { readonly kept: boolean; readonly direct: boolean },
    waiting: Waiting,
  ): void {
    const { storage, clock, stats } = this.#deps;
    const { payload, qos } = message;
    const topic = message.shownTopic ?? message.topic;
    const online = session?.online;
    let seq = 0;
    if (how.kept) {
      const kept = { clientId, topic, payload, direct: how.direct, bornAt: clock.wallMs() };
      seq = storage.keep(kept, waiting.begin());
      if (online) storage.mailbox(clientId)?.claim(seq);
    } else if (!online) stats.dropped++;
    online?.push({ topic, payload, qos, seq, pushes: 0 });
  }
}

/** [MQTT-3.8.4-6]; while the client is away only its QoS 1 filters count. */
function effectiveQos(published: Qos, match: Match, session: Session): Qos {
  const granted = match.keeps && !session.online ? 1 : match.qos;
  return Math.min(published, granted) as Qos;
}

/** Counts what is under way for one publication and reports the first failure. */
class Waiting {
  readonly #done: Done;
  #count = 1;
  #error: Error | undefined;

  constructor(done: Done) {
    this.#done = done;
  }

  begin(): Done {
    this.#count++;
    return (error) => this.finish(error);
  }

  finish(error?: Error): void {
    this.#error ??= error;
    this.#count--;
    if (this.#count === 0) this.#done(this.#error);
  }
}
