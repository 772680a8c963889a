/**
 * A run: one command to one device, with all that became of it. A run over many devices will be
 * many of these under a name of its own.
 *
 * The bytes that were sent are part of it, because a command is only ever repeated with the same
 * id and the same bytes: the device answers a repetition from its journal, so it runs once.
 */
import { HoldfastError } from "../../agent/core/errors.ts";
import { isJsonObject, type JsonObject, parseJson } from "../../agent/core/json.ts";
import { limits } from "../../agent/core/limits.ts";
import { parseReply, type Reply } from "../../agent/protocol/reply.ts";

/** Contradictions kept in a run; further ones are counted only. */
export const CONTRADICTIONS_KEPT = 4;
/** The command, the newest and the final reply and the contradictions, escaped as JSON strings. */
const FILE_BOUNDS = {
  maxBytes: 2 * (CONTRADICTIONS_KEPT + 3) * limits.payloadBytes + 4_096,
  maxDepth: 4,
};

export interface Run {
  /** The command's id, a ULID; names the run as well. */
  readonly id: string;
  readonly device: string;
  /** `<plugin>.<verb>` */
  readonly command: string;
  /** The slot that sent it and that its reply comes to. */
  readonly slot: number;
  readonly from: string;
  readonly topic: string;
  /** What was sent, byte for byte: an envelope is UTF-8 text in every form. */
  readonly payload: string;
  /** Unix milliseconds, as all times here. */
  readonly createdAt: number;
  readonly expiresAt: number;
  /** When the service acknowledged it first; absent: it may never have been sent. */
  readonly sentAt?: number;
  /** The newest reply that was not final. */
  readonly latest?: SeenReply;
  /** The first final reply: what the command came to. */
  readonly final?: SeenReply;
  /** Later final replies that say something else than the first. A device never does that. */
  readonly contradictions: readonly SeenReply[];
  /** All of them, also those that are not kept. */
  readonly contradictionCount: number;
}

export interface SeenReply {
  /** When it was recorded here. */
  readonly at: number;
  /** As the device sent it. */
  readonly text: string;
  readonly reply: Reply;
}

type RunState = "recorded" | "sent" | "running" | "ended" | "expired";

/** The states that a person sees; `ended` has its final reply, `expired` will hardly get one. */
export function runState(run: Run, wallMs: number): RunState {
  if (run.final) return "ended";
  if (wallMs > run.expiresAt) return "expired";
  if (run.latest) return "running";
  return run.sentAt === undefined ? "recorded" : "sent";
}

export function encodeRun(run: Run): string {
  // `reply` is read from `text` again, so that a reply is checked by one rule wherever it is from.
  const { latest, final, contradictions, ...rest } = run;
  const stored = {
    ...rest,
    latest: latest && withoutReply(latest),
    final: final && withoutReply(final),
    contradictions: contradictions.map(withoutReply),
  };
  return `${JSON.stringify({ v: 1, ...stored })}\n`;
}

/** Throws `store_damaged` or, for a file of a later release, `store_newer_format`. */
export function parseRun(bytes: Uint8Array, path: string): Run {
  const value = parseObject(bytes, path);
  if (typeof value["v"] === "number" && value["v"] > 1) {
    throw new HoldfastError("store_newer_format", `A newer holdfast wrote ${path}.`);
  }
  const sentAt = value["sentAt"];
  const latest = value["latest"];
  const final = value["final"];
  const contradictions = value["contradictions"];
  if (!Array.isArray(contradictions)) throw damaged(path, "contradictions");
  return {
    id: text(value, "id", path),
    device: text(value, "device", path),
    command: text(value, "command", path),
    slot: count(value, "slot", path),
    from: text(value, "from", path),
    topic: text(value, "topic", path),
    payload: text(value, "payload", path),
    createdAt: count(value, "createdAt", path),
    expiresAt: count(value, "expiresAt", path),
    ...(sentAt === undefined ? {} : { sentAt: count(value, "sentAt", path) }),
    ...(latest === undefined ? {} : { latest: seenReply(latest, path) }),
    ...(final === undefined ? {} : { final: seenReply(final, path) }),
    contradictions: contradictions.map((seen) => seenReply(seen, path)),
    contradictionCount: count(value, "contradictionCount", path),
  };
}

function parseObject(bytes: Uint8Array, path: string): JsonObject {
  try {
    const value = parseJson(bytes, FILE_BOUNDS);
    if (isJsonObject(value)) return value;
  } catch (cause) {
    throw damaged(path, "", cause);
  }
  throw damaged(path, "");
}

function withoutReply({ at, text }: SeenReply): { at: number; text: string } {
  return { at, text };
}

function seenReply(value: unknown, path: string): SeenReply {
  if (!isJsonObject(value)) throw damaged(path, "reply");
  const told = text(value, "text", path);
  try {
    return { at: count(value, "at", path), text: told, reply: parseReply(Buffer.from(told)) };
  } catch (cause) {
    throw damaged(path, "reply", cause);
  }
}

function text(value: JsonObject, key: string, path: string): string {
  const member = value[key];
  if (typeof member !== "string" || member === "") throw damaged(path, key);
  return member;
}

function count(value: JsonObject, key: string, path: string): number {
  const member = value[key];
  if (typeof member !== "number" || !Number.isFinite(member)) throw damaged(path, key);
  return member;
}

function damaged(path: string, key: string, cause?: unknown): HoldfastError {
  const where = key === "" ? "it is not a run" : `${key} is not what it should be`;
  return new HoldfastError("store_damaged", `${path} is damaged: ${where}.`, {
    details: { path },
    cause,
  });
}
