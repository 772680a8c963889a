import type { OutgoingMessage } from "../../../agent/core/message.ts";

/** An outbox that takes messages, refuses them, or keeps the caller waiting. */
export class FakeOutgoing {
  readonly messages: OutgoingMessage[] = [];
  attempts = 0;
  refuse: Error | undefined;
  hold: Promise<void> | undefined;

  async put(message: OutgoingMessage): Promise<void> {
    this.attempts++;
    await this.hold;
    if (this.refuse) throw this.refuse;
    this.messages.push(message);
  }

  bodies<T = Record<string, unknown>>(): T[] {
    return this.messages.map(({ payload }) => JSON.parse(Buffer.from(payload).toString()) as T);
  }
}

export const never = new AbortController().signal;
