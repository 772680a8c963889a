/** Counts what arrives at the other end: missing, repeated, out of order. */
import type { MqttClient } from "mqtt";

export interface Tally {
  /** Payloads seen, without repetitions. */
  readonly seen: ReadonlySet<string>;
  readonly duplicates: number;
  /** First deliveries that came after one with a higher number on the same topic. */
  readonly outOfOrder: number;
}

/** Subscribes; payloads are whole numbers that rise within a topic. */
export async function startTally(client: MqttClient, filter: string): Promise<Tally> {
  const tally = { seen: new Set<string>(), duplicates: 0, outOfOrder: 0 };
  const last = new Map<string, number>();
  client.on("message", (topic, payload) => {
    const text = payload.toString();
    if (tally.seen.has(text)) {
      tally.duplicates++;
      return;
    }
    tally.seen.add(text);
    const number = Number(text);
    if (number < (last.get(topic) ?? 0)) tally.outOfOrder++;
    else last.set(topic, number);
  });
  await client.subscribeAsync(filter, { qos: 1 });
  return tally;
}
