import type { Batch } from "../core/message.ts";
import { toRanges } from "../core/message.ts";
import { packetIdOffset } from "../core/publish-packet.ts";

export const emptyBatch: Batch = {
  bytes: new Uint8Array(0),
  count: 0,
  offsets: [0],
  packetIdAt: [],
  ids: [],
};

/** One piece of bytes from packets; the packets are copied. */
export function toBatch(
  messages: readonly {
    readonly epoch: string;
    readonly seq: number;
    readonly packet: Uint8Array;
  }[],
): Batch {
  const total = messages.reduce((sum, { packet }) => sum + packet.length, 0);
  const bytes = Buffer.allocUnsafe(total);
  const offsets: number[] = [];
  const packetIdAt: number[] = [];
  let at = 0;
  for (const { packet } of messages) {
    bytes.set(packet, at);
    offsets.push(at);
    packetIdAt.push(packetIdOffset(bytes, at));
    at += packet.length;
  }
  offsets.push(at);
  return { bytes, count: messages.length, offsets, packetIdAt, ids: toRanges(messages) };
}
