import type { Batch, IdRange } from "../core/message.ts";
import { packetIdOffset } from "../core/publish-packet.ts";
import { copyPackets, isSlice, type Slice } from "./run.ts";

export const emptyBatch: Batch = {
  bytes: new Uint8Array(0),
  count: 0,
  offsets: [0],
  packetIdAt: [],
  ids: [],
};

interface Message {
  readonly epoch: string;
  readonly seq: number;
  readonly packet: Uint8Array;
}

type Range = { -readonly [K in keyof IdRange]: IdRange[K] };

/** One piece of bytes from packets; the packets are copied. */
export function toBatch(items: readonly (Message | Slice)[]): Batch {
  const total = items.reduce((sum, item) => sum + bytesOf(item), 0);
  const bytes = Buffer.allocUnsafe(total);
  const offsets: number[] = [];
  const packetIdAt: number[] = [];
  const ids: Range[] = [];
  let at = 0;
  for (const item of items) {
    if (isSlice(item)) {
      at = copyPackets(item, { bytes, offsets, packetIdAt }, at);
      const { epoch, firstSeq } = item.run.record;
      append(ids, epoch, firstSeq + item.from, item.count);
      continue;
    }
    const { packet } = item;
    bytes.set(packet, at);
    offsets.push(at);
    packetIdAt.push(packetIdOffset(bytes, at));
    at += packet.length;
    append(ids, item.epoch, item.seq, 1);
  }
  const count = offsets.length;
  offsets.push(at);
  return { bytes, count, offsets, packetIdAt, ids };
}

function bytesOf(item: Message | Slice): number {
  return isSlice(item) ? item.bytes : item.packet.length;
}

/** Neighbours are joined; the order is kept. */
function append(ids: Range[], epoch: string, from: number, count: number): void {
  const last = ids.at(-1);
  const to = from + count - 1;
  if (last && last.epoch === epoch && last.to + 1 === from) last.to = to;
  else ids.push({ epoch, from, to });
}
