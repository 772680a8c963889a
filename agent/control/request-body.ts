/**
 * Bodies of requests, bounded one by one and in all: what all requests together may hold in memory
 * is a budget, because pipelining makes the number of connections no bound (I7).
 */
import type { IncomingMessage as HttpRequest } from "node:http";
import { HoldfastError } from "../core/errors.ts";

export class BodyBudget {
  readonly #capacity: number;
  #held = 0;

  constructor(capacityBytes: number) {
    this.#capacity = capacityBytes;
  }

  get heldBytes(): number {
    return this.#held;
  }

  take(bytes: number): boolean {
    if (this.#held + bytes > this.#capacity) return false;
    this.#held += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#held -= bytes;
  }
}

export interface Body {
  readonly bytes: Buffer;
  /** Gives its room back; once. */
  release(): void;
}

/** Throws `payload_too_large` from the header alone where it can be known from there. */
export function checkDeclaredLength(request: HttpRequest, maxBytes: number): void {
  const declared = request.headers["content-length"];
  if (declared !== undefined && Number(declared) > maxBytes) throw tooLarge(maxBytes);
}

/**
 * Reads the body. Throws `payload_too_large` at the first byte over
 * the bound, `too_many` when the budget is used up, `connection_lost` when the peer went away.
 * After a throw the request is left unread: the server lets it run dry.
 */
export async function readBody(
  request: HttpRequest,
  maxBytes: number,
  budget: BodyBudget,
): Promise<Body> {
  const chunks: Buffer[] = [];
  let length = 0;
  const free = (): void => {
    budget.give(length);
    length = 0;
  };
  try {
    for await (const chunk of chunksOf(request)) {
      if (length + chunk.length > maxBytes) throw tooLarge(maxBytes);
      if (!budget.take(chunk.length)) throw new HoldfastError("too_many", busyMessage);
      length += chunk.length;
      chunks.push(chunk);
    }
    if (!request.complete) throw new HoldfastError("connection_lost", "The body ended early.");
    return { bytes: Buffer.concat(chunks, length), release: free };
  } catch (error) {
    free();
    throw error;
  }
}

export const busyMessage = "The agent has too many requests in hand; repeat this one in a moment.";

/** Unlike the stream's own iterator it leaves the socket open when the reader gives up early. */
async function* chunksOf(request: HttpRequest): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of request.iterator({ destroyOnReturn: false })) yield chunk as Buffer;
  } catch (cause) {
    if (cause instanceof HoldfastError) throw cause;
    throw new HoldfastError("connection_lost", "The connection ended within the body.", { cause });
  }
}

function tooLarge(maxBytes: number): HoldfastError {
  return new HoldfastError("payload_too_large", `The body is over ${maxBytes} bytes.`);
}
