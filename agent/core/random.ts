/** Randomness comes in as an object, so that a schedule replays from its seed. */
export interface Random {
  /** Uniform in [0, 1). */
  float(): number;
  /** `count` random bytes, fit for identifiers and nonces. */
  bytes(count: number): Uint8Array;
}

const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/**
 * A ULID: 48 bits of milliseconds, then 80 random bits, in 26 characters of Crockford's base 32.
 * Unique with any clock, because the random part alone is enough; sorted only by a right one.
 */
export function ulid(wallMs: number, random: Random): string {
  let time = Math.max(0, Math.min(Math.floor(wallMs), 2 ** 48 - 1));
  let head = "";
  for (let i = 0; i < 10; i++) {
    head = CROCKFORD.charAt(time % 32) + head;
    time = Math.floor(time / 32);
  }
  let tail = "";
  let bits = 0;
  let held = 0;
  for (const byte of random.bytes(10)) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      tail += CROCKFORD.charAt((held >> bits) & 31);
    }
    held &= (1 << bits) - 1;
  }
  return head + tail;
}
