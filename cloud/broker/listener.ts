import { createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createServer as createTlsServer } from "node:tls";
import { HoldfastError } from "../../agent/core/errors.ts";
import { createWebSocketServer } from "./websocket.ts";

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface ListenOptions extends Address {
  /** Connections at one time, those in a TLS handshake included. */
  readonly maxConnections: number;
  /** PEM; with it the listener speaks TLS. */
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  /** With it the listener speaks WebSocket, in messages of at most so many bytes. */
  readonly webSocket?: { readonly maxMessageBytes: number } | undefined;
  /** A handshake of TLS or WebSocket that takes longer is given up, in milliseconds. */
  readonly handshakeMs: number;
}

/** A peer that is silently gone is noticed by the kernel after about this, in milliseconds. */
const TCP_PROBE_MS = 60_000;

/**
 * One port: TCP or WebSocket, with TLS or without. Each connection that is through its handshakes
 * is given to `accept` with the peer's address and port.
 */
export class Listener {
  readonly #options: ListenOptions;
  readonly #accept: (stream: Duplex, address: string, port: number) => void;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;

  constructor(
    options: ListenOptions,
    deps: { readonly accept: (stream: Duplex, address: string, port: number) => void },
  ) {
    this.#options = options;
    this.#accept = deps.accept;
  }

  /** Where it listens; port 0 in the options is any free port. */
  async start(): Promise<Address> {
    const { host, port, maxConnections } = this.#options;
    const server = this.#make();
    // The raw sockets, so that those still in a handshake can be closed too.
    server.on("connection", (socket: Socket) => this.#track(socket));
    // Node tells of a handshake that takes too long, and leaves its connection open.
    server.on("tlsClientError", (_: Error, socket: Socket) => socket.destroy());
    server.maxConnections = maxConnections;
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause) => reject(cannotListen(host, port, cause)));
      server.listen({ host, port }, resolve);
    });
    server.on("error", () => undefined); // Of single connections; there is nobody to tell.
    const address = server.address();
    return { host, port: typeof address === "object" && address ? address.port : port };
  }

  /** Takes no more connections, and waits until those there are have ended or `deadline` aborts. */
  async stop(deadline: AbortSignal): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    const cut = (): void => {
      for (const socket of this.#sockets) socket.destroy();
    };
    if (deadline.aborted) cut();
    else deadline.addEventListener("abort", cut, { once: true });
    await closed;
    deadline.removeEventListener("abort", cut);
  }

  #make(): Server {
    const { tls, webSocket, handshakeMs } = this.#options;
    if (webSocket) {
      return createWebSocketServer({ ...webSocket, tls, handshakeMs }, this.#accept);
    }
    const connected = (socket: Socket): void =>
      this.#accept(socket, socket.remoteAddress ?? "", socket.remotePort ?? 0);
    // Half-open: what a client sent before it closed its side is read, though it be held back.
    const halfOpen = { allowHalfOpen: true };
    return tls
      ? createTlsServer({ ...tls, ...halfOpen, handshakeTimeout: handshakeMs }, connected)
      : createServer(halfOpen, connected);
  }

  #track(socket: Socket): void {
    socket.setNoDelay(true);
    socket.setKeepAlive(true, TCP_PROBE_MS);
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
  }
}

function cannotListen(host: string, port: number, cause: Error): HoldfastError {
  return new HoldfastError("listen_failed", `Cannot listen on ${host}:${port}.`, { cause });
}
