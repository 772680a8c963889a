/** Sets of the messages of one record: bit i stands for message i, of 32 at most. */

/** The mask of the first `count` messages; 32 of them use the sign bit, which masks do not mind. */
export function allOf(count: number): number {
  return count === 32 ? -1 : (1 << count) - 1;
}

export function bits(mask: number): number {
  let count = 0;
  for (let rest = mask >>> 0; rest !== 0; rest = (rest & (rest - 1)) >>> 0) count++;
  return count;
}
