import type { Authenticator } from "../types.ts";

/** User name and password of a standard broker; without a user name the device is anonymous. */
export function passwordAuthenticator(
  options: { readonly username?: string; readonly password?: () => string } = {},
): Authenticator {
  const { username, password } = options;
  return {
    credentials: async () => ({
      ...(username ? { username } : {}),
      // [MQTT-3.1.2-22]: no password without a user name.
      ...(username && password ? { password: password() } : {}),
    }),
  };
}
