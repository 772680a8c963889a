/** One table from our error codes to HTTP, and the JSON of an error (surface 4). */
import { type ErrorCode, HoldfastError } from "../core/errors.ts";

const table: Partial<Record<ErrorCode, number>> = {
  request_invalid: 400,
  message_invalid: 400,
  json_invalid: 400,
  topic_invalid: 400,
  topic_too_long: 400,
  lane_unknown: 400,
  params_invalid: 400,
  config_invalid: 400,
  forbidden: 403,
  not_found: 404,
  payload_too_large: 413,
  lane_full: 429,
  store_not_writable: 503,
  store_unreadable: 503,
  store_damaged: 503,
  storage_unavailable: 503,
  too_many: 503,
  busy: 503,
  stopped: 503,
  timed_out: 504,
};

export interface ErrorBody {
  readonly code: string;
  readonly message: string;
}

/** 500 for what nobody foresaw; a throw site may name a finer status in `details.status`. */
export function httpStatusOf(error: unknown): number {
  if (!(error instanceof HoldfastError)) return 500;
  const { status } = error.details;
  return typeof status === "number" ? status : (table[error.code] ?? 500);
}

/** What the one who asked may know: an error that is not ours is in the log, not in the answer. */
export function errorBody(error: unknown): ErrorBody {
  if (error instanceof HoldfastError) return { code: error.code, message: error.message };
  return { code: "internal", message: "The agent failed to answer; its log says why." };
}
