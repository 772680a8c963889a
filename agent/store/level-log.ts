/**
 * LevelDB's log files, as far as trust in them needs: the manifest is one, and so is the log of what
 * is not in tables yet. A file is blocks of 32 KiB; a piece is 4 bytes of checksum, u16 length, u8
 * kind (1 whole, 2 first, 3 middle, 4 last), content; little-endian, never over the end of a block.
 */
const BLOCK = 32_768;
const HEADER = 7;

interface Piece {
  readonly kind: number;
  readonly content: Buffer;
  readonly sound: boolean;
}

/** Whole records up to the end or to where it was cut, as LevelDB takes them. */
export function* logRecords(log: Buffer): Generator<Buffer> {
  let parts: Buffer[] = [];
  for (const { kind, content } of pieces(log)) {
    if (kind > 4) throw new RangeError("not a log of LevelDB");
    parts = kind === 1 || kind === 2 ? [content] : [...parts, content];
    if (kind === 1 || kind === 4) yield Buffer.concat(parts);
  }
}

/**
 * Whether something sound comes after something broken. A power cut tears the end and leaves nothing
 * behind it; LevelDB opens either without a word, and drops up to a block.
 */
export function isBrokenInside(log: Buffer): boolean {
  let broken = false;
  for (let at = 0; at < log.length; at += BLOCK) {
    for (const { sound } of pieces(log.subarray(at, at + BLOCK))) {
      if (sound && broken) return true;
      if (!sound) broken = true;
    }
  }
  return false;
}

/** Ends where the rest makes no sense. */
function* pieces(log: Buffer): Generator<Piece> {
  for (let at = 0; at + HEADER <= log.length; ) {
    const left = BLOCK - (at % BLOCK);
    if (left < HEADER) {
      at += left;
      continue;
    }
    const end = at + HEADER + log.readUInt16LE(at + 4);
    const kind = log[at + 6] as number;
    if (kind === 0 && log.readUInt32LE(at) === 0) return; // Room that was never written.
    const content = log.subarray(at + HEADER, end);
    const fits = end <= log.length && end - at <= left;
    const sound = fits && unmask(log.readUInt32LE(at)) === crc32c(log.subarray(at + 6, end));
    if (fits || log.length - at >= left) yield { kind, content, sound };
    if (!fits) return;
    at = end;
  }
}

/** LevelDB stores sums turned and shifted, so that a sum over sums stays good. */
function unmask(stored: number): number {
  const turned = (stored - 0xa282ead8) >>> 0;
  return ((turned >>> 17) | (turned << 15)) >>> 0;
}

/** Castagnoli's polynomial, which zlib does not have. */
function crc32c(bytes: Uint8Array): number {
  let sum = 0xffff_ffff;
  for (const byte of bytes) sum = (table[(sum ^ byte) & 0xff] as number) ^ (sum >>> 8);
  return (sum ^ 0xffff_ffff) >>> 0;
}

const table = Uint32Array.from({ length: 256 }, (_, start) => {
  let value = start;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f6_3b78 : value >>> 1;
  return value >>> 0;
});
