import type { OutgoingMessage } from "../core/message.ts";

/** What health needs of an outbox. */
export interface HealthOutgoing {
  /** Resolves when the message is safe. */
  put(message: OutgoingMessage): Promise<unknown>;
}
