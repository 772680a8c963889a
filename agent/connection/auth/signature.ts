import { makeConnectPassword, makeConnectUsername } from "../../protocol/connect-signature.ts";
import type { Authenticator } from "../types.ts";

/**
 * lmq-protocol 3: the password depends on client id and secret alone and never expires. The secret
 * is asked for at each connect, so a changed one counts from the next connection on.
 */
export function signatureAuthenticator(options: {
  readonly accessKey: string;
  readonly secret: () => string;
  readonly instanceId: string;
  readonly clientId: string;
}): Authenticator {
  const { accessKey, secret, instanceId, clientId } = options;
  return {
    credentials: async () => ({
      username: makeConnectUsername({ mode: "Signature", accessKey, instanceId }),
      password: makeConnectPassword(secret(), clientId),
    }),
  };
}
