/** What is wrong with the store, in words for somebody who was woken by it: alarms, status, health. */
import type { DatabaseStore } from "../store/store.ts";

const MB = 1_048_576;

/** What the words are made of. */
export type StoreFacts = Pick<DatabaseStore, "state" | "fault" | "shortFrom" | "room">;

/** Why nothing can be written; undefined: it can. */
export function writeTrouble({ state, fault }: Omit<StoreFacts, "room" | "shortFrom">) {
  if (state === "open") return undefined;
  const goesOn =
    state === "failed"
      ? "What is stored is still sent; it goes on by itself when the disk takes writes."
      : "Nothing that is stored can be sent; the agent starts anew by itself when the disk is well.";
  return `${faultText(state, fault)} ${goesOn}`;
}

function faultText(state: StoreFacts["state"], fault: string | undefined): string {
  if (state === "read-only" || fault === "EROFS") {
    return "The file system of the state folder is read-only (EROFS): see the kernel's log, mount it again.";
  }
  if (fault === "ENOSPC") return "The disk is full (ENOSPC): make room on it.";
  if (fault === "EIO") {
    return "The disk reports errors (EIO): see the kernel's log, the card may be dying.";
  }
  if (fault === "EACCES" || fault === "EPERM") {
    return `The state folder may not be written (${fault}): mend its owner and mode.`;
  }
  const code = fault === undefined ? "" : ` (${fault})`;
  return state === "absent"
    ? `The database could not be opened at the start${code}.`
    : `The disk does not take writes${code}.`;
}

/** What is not taken for want of room; undefined: everything is taken. */
export function roomTrouble({ room, shortFrom }: Pick<StoreFacts, "room" | "shortFrom">) {
  if (!room || shortFrom === Number.POSITIVE_INFINITY) return undefined;
  const figures = `${mb(room.usedBytes)} MB used, ${mb(room.freeBytes)} MB free`;
  const why = `The quota (state.quota_mb) or the floor of free space (state.keep_free_mb) is reached: ${figures}.`;
  if (shortFrom <= 1) return `${why} The reserve for alarms and replies is used up as well.`;
  return `${why} Lanes of priority ${shortFrom} and below take only what can be sent at once.`;
}

function mb(bytes: number): string {
  return (bytes / MB).toFixed(0);
}

/** For the status: the worst of it. */
export function storeTrouble(store: StoreFacts): string | undefined {
  return writeTrouble(store) ?? roomTrouble(store);
}
