/**
 * Decisions about one command, pure: who may ask for what, and where the answer may go. The order
 * of the checks is that of the envelope: form, recipient, journal, policy, expiry.
 */
import { isHoldfastError } from "../core/errors.ts";
import type { CommandEnvelope } from "../protocol/envelope.ts";
import type { FinalStatus, ReplyError } from "../protocol/reply.ts";
import { checkPublishTopic, makeP2pTopic, topicMatches } from "../protocol/topics.ts";

export interface Policy {
  readonly up: string;
  readonly down: string;
  readonly topicMax: number;
  readonly allowUnsigned: readonly string[];
  readonly replyTo: readonly string[];
}

export interface Refusal {
  readonly status: Exclude<FinalStatus, "succeeded">;
  readonly error: ReplyError;
}

/** Where an unsigned command is answered, whatever it asks for; undefined: nowhere. */
export function replyTopicOf(from: string, policy: Policy): string | undefined {
  const topic = makeP2pTopic(policy.down, from);
  return isPublishable(topic, policy.topicMax) ? topic : undefined;
}

/** Whether a sender may ask for replies there. Wildcards, `$` and foreign parents never pass. */
export function mayReplyTo(topic: string, policy: Policy): boolean {
  if (!isPublishable(topic, policy.topicMax)) return false;
  if (!topic.startsWith(`${policy.up}/`) && !topic.startsWith(`${policy.down}/`)) return false;
  return policy.replyTo.some((pattern) =>
    topicMatches(pattern.replaceAll("{up}", policy.up).replaceAll("{down}", policy.down), topic),
  );
}

/** Why an unsigned command is not obeyed; undefined: it may run. */
export function refuseUnsigned(envelope: CommandEnvelope, policy: Policy): Refusal | undefined {
  if (policy.allowUnsigned.some((pattern) => matchesPattern(pattern, envelope.command))) {
    return undefined;
  }
  const message = `The command ${envelope.command} must be signed.`;
  return { status: "rejected", error: { code: "signature_required", message } };
}

/** Only a clock that is trusted can tell that a command came too late. */
export function refuseExpired(
  command: { readonly expiresAt: number },
  now: { readonly trusted: boolean; readonly wallMs: number },
): Refusal | undefined {
  if (!now.trusted || now.wallMs <= command.expiresAt) return undefined;
  return {
    status: "expired",
    error: {
      code: "command_expired",
      message: "The command came too late.",
      details: { expiresAt: command.expiresAt, now: now.wallMs },
    },
  };
}

/** `*` stands for any run of characters. Linear: a pattern cannot make it slow. */
function matchesPattern(pattern: string, text: string): boolean {
  const [first = "", ...rest] = pattern.split("*");
  if (rest.length === 0) return pattern === text;
  const last = rest.pop() ?? "";
  if (!text.startsWith(first) || text.length < first.length + last.length) return false;
  let at = first.length;
  for (const part of rest) {
    const found = text.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return at <= text.length - last.length && text.endsWith(last);
}

function isPublishable(topic: string, max: number): boolean {
  try {
    checkPublishTopic(topic, max);
    return true;
  } catch (error) {
    if (isHoldfastError(error)) return false;
    throw error;
  }
}
