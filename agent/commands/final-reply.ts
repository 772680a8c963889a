/** From a result to the bytes of the one final reply. Pure. */
import { HoldfastError } from "../core/errors.ts";
import { limits } from "../core/limits.ts";
import { encodeReply, finalStatuses, type Reply } from "../protocol/reply.ts";
import type { CommandResult } from "./dispatcher.ts";
import { bounds } from "./options.ts";

/** Never longer than a message may be: a result that is becomes the failure `no_room`. */
export function encodeFinal(
  head: Pick<Reply, "id" | "device" | "at">,
  result: CommandResult,
): Uint8Array {
  const payload = encode(head, result);
  if (payload.length <= limits.payloadBytes) return payload;
  return encode(head, noRoom(payload.length, "message"));
}

/** A result that cannot be said in JSON is a failure of the handler. */
function encode(head: Pick<Reply, "id" | "device" | "at">, result: CommandResult): Uint8Array {
  try {
    return encodeReply({ ...head, ...checked(result) });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return encodeReply({ ...head, ...failed("handler_failed", why) });
  }
}

export function failed(code: string, message: string): CommandResult {
  return { status: "failed", error: { code, message: message.slice(0, bounds.errorMessageChars) } };
}

/** Only what belongs in a reply; throws for what is no result at all. */
function checked(result: CommandResult): CommandResult {
  if (!finalStatuses.includes(result?.status)) {
    throw new HoldfastError("handler_failed", "The plugin gave something that is no result.");
  }
  if (result.status === "succeeded") {
    return { status: "succeeded", result: result.result ?? null };
  }
  const { code, message, details } = result.error;
  if (typeof code !== "string" || typeof message !== "string") {
    throw new HoldfastError("handler_failed", "The plugin gave an error without code or message.");
  }
  const short = message.slice(0, bounds.errorMessageChars);
  return { status: result.status, error: { code, message: short, ...(details && { details }) } };
}

export function noRoom(bytes: number, where: "lane" | "message"): CommandResult {
  const details = { bytes, limit: limits.payloadBytes };
  const message =
    where === "message"
      ? `The result is ${bytes} bytes long and does not fit one message.`
      : `The result is ${bytes} bytes long and the device has no room to keep it.`;
  return { status: "failed", error: { code: "no_room", message, details } };
}
