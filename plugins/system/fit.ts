/** A reply gets 4 KiB by default; this leaves room for what is around the list. */
const listBytes = 3_200;

/** As many items from the front as fit a reply, and how many had to stay behind. */
export function fitReply<T>(items: readonly T[]): { list: readonly T[]; truncated: number } {
  let bytes = 0;
  let count = 0;
  for (const item of items) {
    bytes += Buffer.byteLength(JSON.stringify(item)) + 1;
    if (bytes > listBytes) break;
    count++;
  }
  return { list: items.slice(0, count), truncated: items.length - count };
}

/** At most `most` bytes of JSON: names of processes and mounts are whatever somebody chose. */
export function short(text: string, most: number): string {
  let cut = text.slice(0, most);
  while (Buffer.byteLength(JSON.stringify(cut)) - 2 > most) cut = cut.slice(0, -1);
  return cut;
}

/** One decimal; null for what is no number. */
export function tenth(value: number): number | null {
  return Number.isFinite(value) ? Math.round(value * 10) / 10 : null;
}

export function percent(part: number, whole: number): number | null {
  return tenth((100 * part) / whole);
}
