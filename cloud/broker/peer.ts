/** What the MQ side is told of a client beside its messages: where it is, and whether it asked for order. */

/** `ip:port`, as in the example of lmq-protocol 7.3; an IPv6 address goes in brackets. */
export function formatPeer(address: string, port: number): string {
  const bare = address.startsWith("::ffff:") ? address.slice("::ffff:".length) : address;
  return bare.includes(":") ? `[${bare}]:${port}` : `${bare}:${port}`;
}

/**
 * The payload of `$SYS/enableOrderMsg` (lmq-protocol 8): `{"order":"true"}`, the string. Undefined
 * for anything else, which changes nothing.
 */
export function readOrder(payload: Uint8Array): boolean | undefined {
  if (payload.length > 256) return undefined;
  try {
    const value: unknown = JSON.parse(Buffer.from(payload).toString("utf8"));
    const order = typeof value === "object" && value !== null && "order" in value && value.order;
    return order === "true" ? true : order === "false" ? false : undefined;
  } catch {
    return undefined;
  }
}
