import { once } from "node:events";
import type { IncomingMessage } from "node:http";

/** What of a refused body is thrown away, so that its sender gets to read why, in bytes. */
const LINGER_BYTES = 1_048_576;

/** Undefined when it is over the limit; nothing more is kept or read then. */
export async function readBody(
  request: IncomingMessage,
  maxBytes: number,
): Promise<Buffer | undefined> {
  if (Number(request.headers["content-length"] ?? 0) > maxBytes) return undefined;
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    length += (chunk as Buffer).length;
    if (length > maxBytes) return undefined;
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}

/**
 * Reads on after an answer that came before the end of the body: closing at once would reset the
 * connection, and a client that is still sending would see that and no answer. Resolves at the end,
 * after a bounded number of bytes, or when the connection is gone; Node's request timeout bounds
 * the time.
 */
export async function discardRest(request: IncomingMessage): Promise<void> {
  let length = 0;
  const enough = new AbortController();
  request.on("data", (chunk: Buffer) => {
    length += chunk.length;
    if (length > LINGER_BYTES) enough.abort();
  });
  request.on("end", () => enough.abort());
  request.on("error", () => undefined);
  request.resume();
  await once(request, "close", { signal: enough.signal }).catch(() => undefined);
}
