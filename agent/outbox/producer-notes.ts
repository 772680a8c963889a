import { isJsonObject } from "../core/json.ts";
import type { VolatileLog } from "../store/store.ts";

/** A producer's id and the message that it was accepted as. */
export interface ProducerNote {
  readonly lane: string;
  readonly producerId: string;
  readonly epoch: string;
  readonly seq: number;
}

/** Notes appended before all that are still wanted are written anew and the older ones dropped. */
const NOTES_PER_TURN = 4_096;

/**
 * Producers' ids of messages that were delivered or let go, one JSON line each, in a log that
 * survives a kill of the process but not the boot. Those of messages in the store are in their
 * records. On disk they would cost a write for messages whose writing the service's prompt
 * acknowledgement saves; so after a power cut the id of a delivered message is not known any more,
 * and a producer that repeats it then has it delivered twice.
 */
export class ProducerNotes {
  readonly #log: VolatileLog;
  #waiting: ProducerNote[] = [];
  #appended = 0;

  constructor(log: VolatileLog) {
    this.#log = log;
  }

  /** What earlier processes noted; a line that is not whole is left out. */
  read(): ProducerNote[] {
    const lines = Buffer.from(this.#log.read()).toString().split("\n");
    return lines.map(parseNote).filter((note) => note !== undefined);
  }

  add({ lane, producerId, epoch, seq }: ProducerNote): void {
    this.#waiting.push({ lane, producerId, epoch, seq });
  }

  /** One write for all that was added. `wanted` gives all that is still remembered. */
  flush(wanted: () => readonly ProducerNote[]): void {
    if (this.#waiting.length === 0) return;
    this.#append(this.#waiting);
    this.#appended += this.#waiting.length;
    this.#waiting = [];
    if (this.#appended >= NOTES_PER_TURN) this.#turn(wanted());
  }

  /** Drops everything that earlier processes noted but what is given. */
  restart(wanted: readonly ProducerNote[]): void {
    this.#turn(wanted);
    this.#turn(wanted);
  }

  #turn(wanted: readonly ProducerNote[]): void {
    this.#log.begin();
    this.#append(wanted);
    this.#log.commit();
    this.#appended = 0;
  }

  #append(notes: readonly ProducerNote[]): void {
    if (notes.length > 0) this.#log.append(Buffer.from(notes.map(toLine).join("")));
  }
}

function toLine({ lane, producerId, epoch, seq }: ProducerNote): string {
  return `${JSON.stringify({ lane, producerId, epoch, seq })}\n`;
}

function parseNote(line: string): ProducerNote | undefined {
  let note: unknown;
  try {
    note = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (!isJsonObject(note)) return undefined;
  const { lane, producerId, epoch, seq } = note;
  const texts = typeof lane === "string" && typeof producerId === "string";
  if (!texts || typeof epoch !== "string" || typeof seq !== "number") return undefined;
  return { lane, producerId, epoch, seq };
}
