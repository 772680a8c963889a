import type { Reservation } from "../outbox/outbox.ts";
import type { JournalEntry } from "./journal.ts";

/** A command between its admission and its end, in memory. */
export interface Ticket {
  readonly key: string;
  readonly entry: JournalEntry;
  /** Asked to hear of every step. */
  readonly progress: boolean;
  /** Room for the final reply; none after a restart, where the room was given up with the process. */
  readonly reservation: Reservation | undefined;
  /** admitting: its commit is under way. finishing: it has a result that is not on disk yet. */
  state: "admitting" | "queued" | "running" | "finishing";
  /** Its sender was told that it takes long, and hears of the next step too. */
  noticed: boolean;
  /** Aborted when it has a result. */
  readonly ended: AbortController;
}

export function pluginOf(name: string): string {
  return name.slice(0, name.indexOf("."));
}
