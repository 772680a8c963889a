/**
 * From the session to the journal. The reader only collects; what has collected is decided as one
 * batch, whose admissions share one synced commit, and then every message of it is acknowledged in
 * the order of arrival [MQTT-4.6.0-2]. Nothing here waits for a handler.
 *
 * A message is acknowledged when it is settled what becomes of it: admitted and on disk, refused,
 * or told to come again (`busy`). Only when the process ends before that does it come again by
 * itself. A store that cannot be written thus yields `busy` and never a redelivery loop.
 */
import { BoundedQueue } from "../core/bounded-queue.ts";
import { describeError } from "../core/errors.ts";
import type { IncomingMessage } from "../core/message.ts";
import { Wakeup } from "../core/wakeup.ts";
import { parseCommand } from "../protocol/envelope.ts";
import { makeP2pTopic } from "../protocol/topics.ts";
import { Admission, type AdmissionDeps, type Candidate } from "./admission.ts";
import type { Counts } from "./counts.ts";
import { bounds, type CommandsOptions, type Inbound, type Router } from "./options.ts";

export interface IntakeDeps extends AdmissionDeps {
  readonly counts: Counts;
}

export class Intake {
  readonly #options: CommandsOptions;
  readonly #deps: IntakeDeps;
  readonly #admission: Admission;
  readonly #ownTopic: string;
  #unreadableLoggedMs = Number.NEGATIVE_INFINITY;
  #unreadable = 0;

  constructor(options: CommandsOptions, deps: IntakeDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#admission = new Admission(options, deps);
    this.#ownTopic = makeP2pTopic(options.down, options.clientId);
  }

  /**
   * Reads until `inbound` ends or `signal` aborts, and resolves when all that was begun is done.
   * What was read and not begun by then stays unacknowledged.
   */
  async consume(inbound: Inbound, signal: AbortSignal, router?: Router): Promise<void> {
    const waiting = new BoundedQueue<IncomingMessage>(bounds.inboundMessages);
    const room = new Wakeup();
    const deciding = this.#decideAll(waiting, room, signal, router);
    try {
      for await (const message of inbound.messages(signal)) {
        while (!signal.aborted && !waiting.push(message)) await room.wait(signal);
        if (signal.aborted) break;
      }
    } finally {
      waiting.close();
      await deciding;
    }
  }

  async #decideAll(
    waiting: BoundedQueue<IncomingMessage>,
    room: Wakeup,
    signal: AbortSignal,
    router: Router | undefined,
  ): Promise<void> {
    for (;;) {
      const first = await waiting.shift(signal);
      if (!first) return;
      const batch = [first];
      while (batch.length < bounds.admissionBatch) {
        const next = waiting.poll();
        if (!next) break;
        batch.push(next);
      }
      room.notify();
      await this.#decideBatch(batch, router);
    }
  }

  async #decideBatch(batch: readonly IncomingMessage[], router: Router | undefined): Promise<void> {
    const candidates: Candidate[] = [];
    const taken: IncomingMessage[] = [];
    for (const message of batch) {
      if (message.topic !== this.#ownTopic) {
        if (this.#route(message, router)) continue;
        this.#deps.counts.add("unrouted");
      } else {
        const candidate = this.#read(message);
        if (candidate) candidates.push(candidate);
      }
      taken.push(message);
    }
    const start = await this.#admission.admit(candidates);
    for (const message of taken) message.accept();
    start();
  }

  #route(message: IncomingMessage, router: Router | undefined): boolean {
    try {
      return router?.(message) ?? false;
    } catch (error) {
      this.#deps.log.error("router threw", { error: describeError(error) });
      return false;
    }
  }

  /** Undefined: nothing to decide any more; it was counted. */
  #read(message: IncomingMessage): Candidate | undefined {
    const { clientId, profile } = this.#options;
    const parsed = parseCommand(message.payload, { ownClientId: clientId, profile });
    switch (parsed.kind) {
      case "command":
      case "invalid":
        return { parsed, size: message.payload.length };
      case "wrong_recipient":
        this.#deps.counts.add("wrong_recipient");
        return undefined;
      case "signed":
        // Nobody here can check a signature yet, so nobody is proven, so nobody is answered.
        this.#deps.counts.add("signature_unchecked");
        return undefined;
      case "unreadable":
        this.#noteUnreadable(parsed.reason);
        return undefined;
    }
  }

  #noteUnreadable(reason: string): void {
    this.#deps.counts.add(`unreadable_${reason}`);
    this.#unreadable++;
    const nowMs = this.#deps.clock.monotonicMs();
    if (nowMs - this.#unreadableLoggedMs < bounds.unreadableLogEveryMs) return;
    this.#deps.log.warn("commands unreadable", { count: this.#unreadable, lastReason: reason });
    this.#unreadableLoggedMs = nowMs;
    this.#unreadable = 0;
  }
}
