/**
 * How a change reaches a service that runs: `admin.sock` in its data folder, a unix socket that only
 * its owner can open (0600). A request is one line of JSON, and so is the answer; then the
 * connection ends. Who can open the socket can read cloud.toml with its secrets anyway, so nothing
 * more is asked for.
 *
 * - There is one service for a data folder (its store is locked), so a socket found at the start is
 *   a dead one's and is replaced.
 * - A request is bounded in size and time, and so is their number.
 * - Paths longer than a socket may have go by the descriptor of the folder, where /proc is there.
 */
import { closeSync, openSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { describeError, HoldfastError, isHoldfastError } from "../../agent/core/errors.ts";
import type { Logger } from "../../agent/core/log.ts";
import { readLine } from "./line.ts";

const NAME = "admin.sock";
/** `sun_path` holds 108 bytes with the closing zero (unix(7)). */
const MAX_PATH_BYTES = 107;
const CONNECTIONS = 16;

export interface AdminDeps {
  /** What a request asks for; its result is the answer. */
  readonly handle: (request: unknown) => unknown;
  readonly log: Logger;
}

export class AdminSocket {
  readonly #dir: string;
  readonly #deps: AdminDeps;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #place: Place | undefined;

  constructor(options: { readonly dir: string }, deps: AdminDeps) {
    this.#dir = options.dir;
    this.#deps = deps;
  }

  /** Without it the service still serves: what goes wrong is logged. */
  async start(): Promise<void> {
    const server = createServer((socket) => void this.#serve(socket));
    server.maxConnections = CONNECTIONS;
    try {
      this.#place = placeOf(this.#dir);
      rmSync(join(this.#dir, NAME), { force: true });
      await this.#listen(server, this.#place.path);
      this.#server = server;
    } catch (error) {
      this.#place?.release();
      this.#place = undefined;
      this.#deps.log.warn("no admin socket: changes need a restart", {
        error: describeError(error),
      });
    }
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
    this.#place?.release();
    this.#place = undefined;
  }

  #listen(server: Server, path: string): Promise<void> {
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      // Bound in this very call: the file is never there with a wider mode.
      const umask = process.umask(0o177);
      try {
        server.listen({ path }, () => {
          server.off("error", reject).on("error", () => undefined);
          resolve();
        });
      } finally {
        process.umask(umask);
      }
    });
  }

  async #serve(socket: Socket): Promise<void> {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    socket.on("error", () => undefined);
    let answer: unknown;
    try {
      answer = { result: this.#deps.handle(JSON.parse(await readLine(socket))) };
    } catch (error) {
      const known = isHoldfastError(error);
      if (!known) this.#deps.log.error("change failed", { error: describeError(error) });
      const code = known ? error.code : "request_invalid";
      const message = known ? error.message : "The request could not be carried out.";
      answer = { error: { code, message } };
    }
    socket.end(`${JSON.stringify(answer)}\n`);
  }
}

/**
 * Asks the service that runs over this folder. Undefined when none does. Throws what the service
 * refused with, `protocol_error`, and `unreachable` when it cannot be known whether one runs.
 */
export async function askService(
  dir: string,
  request: unknown,
): Promise<Readonly<Record<string, unknown>> | undefined> {
  let place: Place;
  try {
    place = placeOf(dir);
  } catch {
    return undefined; // No such folder: nothing runs over it.
  }
  try {
    const socket = await open(place.path);
    if (!socket) return undefined;
    socket.write(`${JSON.stringify(request)}\n`);
    const line = await readLine(socket).finally(() => socket.destroy());
    return readAnswer(JSON.parse(line));
  } catch (cause) {
    if (isHoldfastError(cause)) throw cause;
    const message = `What answers at ${join(dir, NAME)} is not the service, or it broke off.`;
    throw new HoldfastError("protocol_error", message, { cause });
  } finally {
    place.release();
  }
}

function open(path: string): Promise<Socket | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once("connect", () => resolve(socket));
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ECONNREFUSED") resolve(undefined);
      else {
        const message = `The service's socket ${path} cannot be opened. Ask as its owner.`;
        reject(new HoldfastError("unreachable", message, { cause: error }));
      }
    });
  });
}

function readAnswer(answer: unknown): Readonly<Record<string, unknown>> {
  const { result, error } = answer as Readonly<Record<string, unknown>>;
  if (typeof result === "object" && result !== null) {
    return result as Readonly<Record<string, unknown>>;
  }
  const { code, message } = (error ?? {}) as Readonly<Record<string, unknown>>;
  const known = code === "config_invalid" || code === "secret_exposed" ? code : "request_invalid";
  throw new HoldfastError(known, typeof message === "string" ? message : "The service refused.");
}

interface Place {
  readonly path: string;
  release(): void;
}

/** The path by which the socket in this folder can be bound and opened. */
function placeOf(dir: string): Place {
  const path = join(dir, NAME);
  if (Buffer.byteLength(path) <= MAX_PATH_BYTES || process.platform !== "linux") {
    return { path, release: () => undefined };
  }
  const folder = openSync(dir, "r");
  return { path: `/proc/self/fd/${folder}/${NAME}`, release: () => closeSync(folder) };
}
