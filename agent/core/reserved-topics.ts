/** First levels below `topics.up` in which only the agent speaks: other devices, and its own state. */
export const reservedTopics: readonly string[] = ["p2p", "health", "alarm", "gap"];

/** Whether a topic below `topics.up` is the agent's alone: no plugin and no local program may use it. */
export function isReservedTopic(below: string): boolean {
  const slash = below.indexOf("/");
  return reservedTopics.includes(slash < 0 ? below : below.slice(0, slash));
}
