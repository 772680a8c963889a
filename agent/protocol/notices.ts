/**
 * What the service says about tokens on its control channels (lmq-protocol 4.6). No subscription
 * asks for it, so anything may come under these names: what is not of the form is no notice.
 */
import { isHoldfastError } from "../core/errors.ts";
import { isJsonObject, parseJson } from "../core/json.ts";

const INVALID_TOPIC = "$SYS/tokenInvalidNotice";
/** A notice is a few dozen bytes. */
const BOUNDS = { maxBytes: 4_096, maxDepth: 4 };

/**
 * The code with which the service announces that it closes the connection after a failed check:
 * 1 to 5, 8 or -1 today. Undefined for any other message.
 */
export function invalidNoticeCode(topic: string, payload: Uint8Array): number | undefined {
  if (topic !== INVALID_TOPIC) return undefined;
  try {
    const body = parseJson(payload, BOUNDS);
    const code = isJsonObject(body) ? body["code"] : undefined;
    return typeof code === "number" && Number.isInteger(code) ? code : undefined;
  } catch (error) {
    if (isHoldfastError(error, "json_invalid")) return undefined;
    throw error;
  }
}

/** What a code means, in words for an operator. */
export function describeNotice(code: number): string {
  const meaning = MEANINGS.get(code) ?? "a reason that is not documented";
  return `${meaning} (notice ${code})`;
}

const MEANINGS: ReadonlyMap<number, string> = new Map([
  [1, "the token is forged or cannot be read"],
  [2, "the token has expired"],
  [3, "the token was revoked"],
  [4, "the token does not cover the topic"],
  [5, "the token does not allow this action on the topic"],
  [8, "the signature of the token is invalid"],
  [-1, "the account has no permission"],
]);
