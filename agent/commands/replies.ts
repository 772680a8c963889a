/**
 * Replies that no promise covers: refusals, `busy`, notices of progress, and repetitions of a final
 * reply that is safe already. They are rate-limited by sender, bounded while they wait for the
 * disk, and a failure to send one is counted and otherwise ignored. The final reply of an admitted
 * command does not come through here.
 */
import type { Clock } from "../core/clock.ts";
import { describeError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { Outgoing } from "../outbox/outbox.ts";
import { encodeReply, type Reply } from "../protocol/reply.ts";
import type { Counts } from "./counts.ts";
import { bounds, REPLY_LANE } from "./options.ts";
import { ReplyLimiter } from "./reply-limiter.ts";

export interface Addressee {
  readonly from: string;
  readonly topic: string;
}

export interface RepliesDeps {
  readonly outbox: Outgoing;
  readonly clock: Clock;
  readonly counts: Counts;
  readonly log: Logger;
}

export class Replies {
  readonly #clientId: string;
  readonly #deps: RepliesDeps;
  readonly #limiter: ReplyLimiter;
  #pending = 0;

  constructor(
    options: { readonly clientId: string; readonly replyRate: number },
    deps: RepliesDeps,
  ) {
    this.#clientId = options.clientId;
    this.#deps = deps;
    this.#limiter = new ReplyLimiter(options.replyRate, deps.clock);
  }

  send(to: Addressee, reply: Omit<Reply, "device" | "at">): void {
    const at = this.#deps.clock.wallMs();
    this.repeat(to, encodeReply({ ...reply, device: this.#clientId, at }));
  }

  /** The same bytes again. */
  repeat(to: Addressee, payload: Uint8Array): void {
    const { outbox, counts, log } = this.#deps;
    if (this.#pending >= bounds.pendingReplies || !this.#limiter.allow(to.from)) {
      counts.add("reply_limited");
      return;
    }
    this.#pending++;
    void outbox
      .put({ topic: to.topic, payload, lane: REPLY_LANE })
      .catch((error: unknown) => {
        counts.add("reply_failed");
        log.debug("reply not sent", { error: describeError(error) });
      })
      .finally(() => this.#pending--);
  }
}
