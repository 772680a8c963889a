import { open, readFile } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { isJsonObject } from "../core/json.ts";

/**
 * What is known of a database from outside of it: the number of its last committed record, and at
 * a clean stop what its files looked like. A cut log opens without an error and with fewer records;
 * only something outside can tell.
 *
 * The file has two slots that are written in turn, in place and synced, so that a torn write costs
 * the newer one only, and a write costs one block of the card.
 */
export interface AnchorValue {
  /** Of the store that it speaks of; that of another one says nothing. */
  readonly storeId: string;
  /** Numbers up to this one were committed. */
  readonly number: number;
  /** Of the database's folder at a clean stop; undefined while it is in use. */
  readonly inventory: number | undefined;
}

const SLOT_BYTES = 512;
const SLOT_DISTANCE = 4_096;

interface Slot extends AnchorValue {
  readonly turn: number;
}

export class Anchor {
  readonly #path: string;
  #turn = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** Undefined: there is none, or none of it can be read. */
  async read(): Promise<AnchorValue | undefined> {
    const bytes = await readFile(this.#path).catch(() => Buffer.alloc(0));
    const slots = [0, SLOT_DISTANCE]
      .map((at) => parseSlot(bytes.subarray(at, at + SLOT_BYTES)))
      .filter((slot) => slot !== undefined)
      .sort((a, b) => b.turn - a.turn);
    this.#turn = slots[0]?.turn ?? 0;
    return slots[0];
  }

  /** Resolves when it is synced. */
  async write(value: AnchorValue): Promise<void> {
    const turn = this.#turn + 1;
    const file = await openForWriting(this.#path);
    try {
      await file.write(formatSlot({ ...value, turn }), 0, SLOT_BYTES, (turn % 2) * SLOT_DISTANCE);
      await file.datasync();
      this.#turn = turn;
    } finally {
      await file.close();
    }
  }
}

async function openForWriting(path: string) {
  try {
    return await open(path, "r+");
  } catch {
    return open(path, "w+", 0o600);
  }
}

function formatSlot(slot: Slot): Buffer {
  const { turn, storeId, number, inventory } = slot;
  const text = JSON.stringify({ turn, storeId, number, inventory });
  const line = `holdfast anchor 1 ${crc32(text)} ${text}\n`;
  return Buffer.alloc(SLOT_BYTES, " ").fill(line, 0, line.length);
}

function parseSlot(bytes: Buffer): Slot | undefined {
  const [, sum, text = ""] = /^holdfast anchor 1 (\d+) (.*)\n/.exec(bytes.toString("latin1")) ?? [];
  if (Number(sum) !== crc32(text)) return undefined;
  const parsed: unknown = JSON.parse(text);
  if (!isJsonObject(parsed)) return undefined;
  const { turn, storeId, number, inventory } = parsed;
  if (typeof turn !== "number" || typeof number !== "number") return undefined;
  return {
    turn,
    storeId: String(storeId),
    number,
    inventory: typeof inventory === "number" ? inventory : undefined,
  };
}
