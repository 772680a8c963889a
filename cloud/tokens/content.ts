/** What is sealed in a token: a list, to be short. */
import { type TokenApplication, type TokenType, tokenTypes } from "../access/access.ts";

export interface TokenContent extends TokenApplication {
  readonly instanceId: string;
  readonly epoch: number;
  /** A keyed hash of the account and its secret, in Base64. */
  readonly proof: string;
}

export function toContent(content: TokenContent): readonly unknown[] {
  const { accessKey, proof, instanceId, actions, resources, expiresAt, epoch } = content;
  return [accessKey, proof, instanceId, actions, resources, expiresAt, epoch];
}

/** Undefined for what a release with another idea of tokens sealed. */
export function contentOf(value: unknown): TokenContent | undefined {
  if (!Array.isArray(value)) return undefined;
  const [accessKey, proof, instanceId, given, resources, expiresAt, epoch] = value as unknown[];
  const actions = tokenTypes.find((type: TokenType) => type === given);
  if (
    typeof accessKey !== "string" ||
    typeof proof !== "string" ||
    typeof instanceId !== "string" ||
    !actions ||
    !isTexts(resources) ||
    typeof expiresAt !== "number" ||
    typeof epoch !== "number"
  ) {
    return undefined;
  }
  return { accessKey, proof, instanceId, actions, resources, expiresAt, epoch };
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === "string");
}
