/** Signature mode of CONNECT: lmq-protocol 3. The user names of the other modes have its form. */
import { equalInConstantTime, hmacSha1Base64 } from "./hmac.ts";

export const connectModes = ["Signature", "Token", "DeviceCredential"] as const;
export type ConnectMode = (typeof connectModes)[number];

export interface ConnectUsername {
  readonly mode: ConnectMode;
  readonly accessKey: string;
  readonly instanceId: string;
}

/** `<mode>|<AccessKeyId>|<InstanceId>` */
export function makeConnectUsername(parts: ConnectUsername): string {
  return `${parts.mode}|${parts.accessKey}|${parts.instanceId}`;
}

/** Undefined for anything that is not three non-empty parts with a known mode in front. */
export function parseConnectUsername(text: string): ConnectUsername | undefined {
  const [first, accessKey, instanceId, ...rest] = text.split("|");
  const mode = connectModes.find((known) => known === first);
  if (!mode || !accessKey || !instanceId || rest.length > 0) return undefined;
  return { mode, accessKey, instanceId };
}

/** Depends on the client id and the secret alone: it never expires. */
export function makeConnectPassword(secret: string, clientId: string): string {
  return hmacSha1Base64(secret, clientId);
}

export function verifyConnectPassword(options: {
  readonly secret: string;
  readonly clientId: string;
  readonly password: string;
}): boolean {
  const expected = makeConnectPassword(options.secret, options.clientId);
  return equalInConstantTime(expected, options.password);
}
