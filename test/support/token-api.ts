/** The token API as an AppServer calls it: lmq-protocol 4.3 and 4.4. */
import { createHmac } from "node:crypto";

export interface TokenAnswer {
  readonly success: boolean;
  readonly message: string;
  readonly code: number;
  readonly tokenData?: string;
}

export interface TokenOrder {
  readonly actions?: string;
  readonly resources?: readonly string[];
  /** Unix milliseconds. */
  readonly expireTime?: number;
  readonly accessKey?: string;
  readonly secret?: string;
}

export type Fields = Readonly<Record<string, string>>;

/** Written from the sheet and not with the code under test. */
export function signature(secret: string, signed: Fields): string {
  const text = Object.keys(signed)
    .sort()
    .map((key) => `${key}=${signed[key]}`)
    .join("&");
  return createHmac("sha1", secret).update(text).digest("base64");
}

export function applyFields(order: TokenOrder = {}): Fields {
  const { accessKey = "AK", secret = "SK", actions = "R,W" } = order;
  const { resources = ["GW_UP/#", "GW_DOWN/#"], expireTime = Date.now() + 3_600_000 } = order;
  const signed = {
    actions: actions.split(",").sort().join(","),
    resources: [...resources].sort().join(","),
    expireTime: String(expireTime),
    serviceName: "mq",
    instanceId: "mqtt-local",
  };
  return { ...signed, proxyType: "MQTT", accessKey, signature: signature(secret, signed) };
}

export function tokenFields(token: string, accessKey = "AK", secret = "SK"): Fields {
  return { token, accessKey, signature: signature(secret, { token }) };
}

/** By POST, as a form. */
export async function callTokenApi(
  port: number,
  path: "apply" | "query" | "revoke",
  fields: Fields,
): Promise<TokenAnswer> {
  const response = await fetch(`http://127.0.0.1:${port}/token/${path}`, {
    method: "POST",
    body: new URLSearchParams(fields),
  });
  return (await response.json()) as TokenAnswer;
}

/** The token; fails unless it was issued. */
export async function applyForToken(port: number, order: TokenOrder = {}): Promise<string> {
  const answer = await callTokenApi(port, "apply", applyFields(order));
  if (answer.tokenData === undefined) throw new Error(`refused: ${JSON.stringify(answer)}`);
  return answer.tokenData;
}

export async function revokeToken(port: number, token: string): Promise<TokenAnswer> {
  return await callTokenApi(port, "revoke", tokenFields(token));
}

export async function queryToken(port: number, token: string): Promise<TokenAnswer> {
  return await callTokenApi(port, "query", tokenFields(token));
}
