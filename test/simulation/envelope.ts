/** What a receiver makes of a payload: a CloudEvent is opened and held against its message. */
import { assert } from "../../agent/core/assert.ts";
import type { Received } from "../support/sim-link.ts";

export const CLIENT_ID = "GID_sim@@@device";
const SOURCE = `/${CLIENT_ID}`;

/** The payload that was put, and whether it came in an envelope. */
export function opened({ text, id, topic }: Received): { payload: string; wrapped: boolean } {
  if (!text.startsWith("{")) return { payload: text, wrapped: false };
  const event = JSON.parse(text) as Record<string, unknown>;
  assert(event["specversion"] === "1.0", `${id}: version ${event["specversion"]}`);
  assert(event["id"] === id, `${id} is called ${event["id"]} in its envelope`);
  assert(event["source"] === SOURCE, `${id} comes from ${event["source"]}`);
  assert(event["subject"] === topic, `${id} is about ${event["subject"]}, not ${topic}`);
  return { payload: String(event["data"]), wrapped: true };
}

/** The number that a message begins with; what the outbox says for itself has none. */
export function textOf(received: Received): string {
  const isGap = !/^\d|^\{"specversion/.test(received.text);
  const payload = isGap ? "" : opened(received).payload;
  return /^\d+/.exec(payload)?.[0] ?? `${received.topic} ${received.id}`;
}
