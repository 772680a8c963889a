/**
 * Sessions of all clients: who is online, what each subscribed to, and what of it is on disk.
 *
 * A clean session lives as long as its connection. A persistent one lives until its client connects
 * clean, and is on disk before its CONNACK, SUBACK or UNSUBACK leaves. One client id has at most
 * one open connection: the newest wins [MQTT-3.1.4-2].
 */
import type { CloudStorage, Done, Qos } from "../storage/storage.ts";
import type { CloseReason } from "./channel.ts";
import type { Push } from "./delivery.ts";
import { Subscriptions } from "./subscriptions.ts";

/** A session's connection, as others need it. */
export interface Online {
  push(push: Push): void;
  close(reason: CloseReason): void;
}

export interface Session {
  readonly clientId: string;
  readonly clean: boolean;
  /** Granted QoS by filter. */
  readonly subscriptions: Map<string, Qos>;
  /** Packet ids of QoS 2 messages that were routed and not yet released [MQTT-4.3.3-2]. */
  readonly received: Set<number>;
  online: Online | undefined;
}

export class Sessions {
  readonly #options: { readonly sessions: number; readonly subscriptions: number };
  readonly #storage: CloudStorage;
  readonly #sessions = new Map<string, Session>();
  readonly #index: Subscriptions;

  constructor(
    options: {
      readonly sessions: number;
      readonly subscriptions: number;
      readonly wildcardsPerParent: number;
    },
    deps: { readonly storage: CloudStorage },
  ) {
    this.#options = options;
    this.#storage = deps.storage;
    this.#index = new Subscriptions(options.wildcardsPerParent);
  }

  /** Brings back what the storage read at its start. */
  load(): void {
    for (const [clientId, { subscriptions }] of this.#storage.sessions) {
      const session = this.#make(clientId, false);
      for (const [filter, qos] of Object.entries(subscriptions)) this.#add(session, filter, qos);
    }
  }

  get count(): number {
    return this.#sessions.size;
  }

  get(clientId: string): Session | undefined {
    return this.#sessions.get(clientId);
  }

  match(topic: string): ReturnType<Subscriptions["match"]> {
    return this.#index.match(topic);
  }

  /**
   * The session for a new connection, whose predecessor is closed. It may be opened once `save` of
   * it is done. Undefined when there are too many.
   */
  attach(
    clientId: string,
    clean: boolean,
  ): { readonly session: Session; readonly present: boolean } | undefined {
    let old = this.#sessions.get(clientId);
    old?.online?.close("clientId conflict");
    old = this.#sessions.get(clientId);
    if (!old && this.#sessions.size >= this.#options.sessions) return undefined;
    if (old && !old.clean && !clean) return { session: old, present: true };
    if (old) this.#drop(old);
    if (clean) this.#storage.dropSubscribed(clientId);
    return { session: this.#make(clientId, clean), present: false };
  }

  /** From now on the session's messages go to `online`. False when a newer session replaced it. */
  open(session: Session, online: Online): boolean {
    if (this.#sessions.get(session.clientId) !== session) return false;
    session.online?.close("clientId conflict");
    session.online = online;
    return true;
  }

  detach(session: Session, online: Online | undefined): void {
    if (session.online !== online) return;
    session.online = undefined;
    if (session.clean && this.#sessions.get(session.clientId) === session) this.#drop(session);
  }

  /**
   * Puts the session on disk as it is, or takes it off when it is a clean one; `done` is called at
   * once where there is nothing to do. Also for a session that is there already: its record may
   * still be on its way when two connections follow each other closely.
   */
  save(session: Session, done: Done): void {
    const { clientId, clean } = session;
    if (!clean) {
      const subscriptions = Object.fromEntries(session.subscriptions);
      this.#storage.putSession(clientId, { subscriptions }, done);
    } else if (this.#storage.sessions.has(clientId)) this.#storage.dropSession(clientId, done);
    else done();
  }

  /** The codes of the SUBACK in order: the granted QoS, or 0x80 for what is one too many. */
  subscribe(
    session: Session,
    requests: readonly { readonly filter: string; readonly qos: Qos }[],
  ): readonly number[] {
    return requests.map(({ filter, qos }) => {
      const isNew = !session.subscriptions.has(filter);
      if (isNew && session.subscriptions.size >= this.#options.subscriptions) return 0x80;
      return this.#add(session, filter, qos) ? qos : 0x80;
    });
  }

  unsubscribe(session: Session, filters: readonly string[]): void {
    for (const filter of filters) {
      if (session.subscriptions.delete(filter)) this.#index.remove(session.clientId, filter);
    }
  }

  #make(clientId: string, clean: boolean): Session {
    const session: Session = {
      clientId,
      clean,
      subscriptions: new Map(),
      received: new Set(),
      online: undefined,
    };
    this.#sessions.set(clientId, session);
    return session;
  }

  #drop(session: Session): void {
    for (const filter of session.subscriptions.keys()) {
      this.#index.remove(session.clientId, filter);
    }
    session.subscriptions.clear();
    this.#sessions.delete(session.clientId);
  }

  #add(session: Session, filter: string, qos: Qos): boolean {
    if (!this.#index.add(session.clientId, filter, qos)) return false;
    session.subscriptions.set(filter, qos);
    return true;
  }
}
