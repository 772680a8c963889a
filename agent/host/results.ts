/** The few forms in which a call ends, so that all runners word them alike. */
import type { CommandResult } from "../commands/commands.ts";
import { describeError, type ErrorCode, isHoldfastError } from "../core/errors.ts";
import type { JsonObject } from "../core/json.ts";
import { PluginError } from "../sdk/sdk.ts";
import { toJson } from "./to-json.ts";

/** Characters of a message or a code that a plugin made; a reply must stay small. */
const longestMessage = 500;
const codePattern = /^[a-z][a-z0-9_]{0,63}$/;

export function rejected(code: ErrorCode, message: string, details?: JsonObject): CommandResult {
  return { status: "rejected", error: { code, message, ...(details && { details }) } };
}

export function failed(code: string, message: string, details?: JsonObject): CommandResult {
  const hasDetails = details && Object.keys(details).length > 0;
  return {
    status: "failed",
    error: { code, message: message.slice(0, longestMessage), ...(hasDetails && { details }) },
  };
}

/** A handler threw: its own code if it chose one, else `handler_failed`. */
export function failedBy(thrown: unknown): CommandResult {
  if (thrown instanceof PluginError) {
    const code = codePattern.test(String(thrown.code)) ? thrown.code : "handler_failed";
    const details = toJson(thrown.details);
    const sound = details.ok && isObject(details.value) ? details.value : undefined;
    return failed(code, String(thrown.message), sound);
  }
  if (isHoldfastError(thrown)) return failed(thrown.code, thrown.message, thrown.details);
  return failed("handler_failed", describeThrown(thrown));
}

/** The call was ended from outside; the reason of the signal says by whom. */
export function abortedBy(signal: AbortSignal): CommandResult {
  const reason: unknown = signal.reason;
  if (isHoldfastError(reason, "deadline_exceeded")) return failed(reason.code, reason.message);
  if (isHoldfastError(reason, "interrupted") || isHoldfastError(reason, "stopped")) {
    return { status: "interrupted", error: { code: "interrupted", message: reason.message } };
  }
  return {
    status: "cancelled",
    error: { code: "cancelled", message: "The command was cancelled while it ran." },
  };
}

/** Anything can be thrown, also things whose own methods throw. */
function describeThrown(thrown: unknown): string {
  try {
    return `The plugin failed: ${describeError(thrown) || "it threw nothing that can be shown"}`;
  } catch {
    return "The plugin failed with something that cannot be shown.";
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
