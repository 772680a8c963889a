/**
 * MQTT over WebSocket (MQTT 3.1.1 section 6, lmq-protocol 2): any path, the subprotocols `mqtt` and
 * `mqttv3.1`, binary frames alone. Each connection becomes a stream of bytes like that of TCP.
 *
 * Bounds: one message is at most `maxMessageBytes`, held until it is whole; fragments, control
 * frames and the answers to pings are bounded by the library; nothing is compressed, so no small
 * message becomes a large one. Who does not upgrade within `handshakeMs` is dropped by Node.
 */
import { createServer, type IncomingMessage, type Server, STATUS_CODES } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { Duplex } from "node:stream";
import { createWebSocketStream, type WebSocket, WebSocketServer } from "ws";

export interface WebSocketOptions {
  readonly maxMessageBytes: number;
  readonly handshakeMs: number;
  /** PEM; with it the server speaks TLS. */
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
}

/** In the order of preference; older browser clients know the second alone. */
const SUBPROTOCOLS = ["mqtt", "mqttv3.1"] as const;
const HEADER_BYTES = 16_384;

/** A server whose upgraded connections are handed to `accept` with the peer's address and port. */
export function createWebSocketServer(
  options: WebSocketOptions,
  accept: (stream: Duplex, address: string, port: number) => void,
): Server {
  const { maxMessageBytes, handshakeMs, tls } = options;
  const limits = {
    maxHeaderSize: HEADER_BYTES,
    headersTimeout: handshakeMs,
    requestTimeout: handshakeMs,
    keepAliveTimeout: handshakeMs,
    connectionsCheckingInterval: Math.min(1_000, handshakeMs),
  };
  const server = tls
    ? createTlsServer({ ...limits, ...tls, handshakeTimeout: handshakeMs })
    : createServer(limits);
  const upgrader = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: maxMessageBytes,
    handleProtocols: (offered) => SUBPROTOCOLS.find((one) => offered.has(one)) ?? false,
  });
  server.on("upgrade", (request, socket, head) => {
    socket.on("error", () => undefined);
    if (!offersMqtt(request)) {
      // [MQTT-6.0.0-3]
      refuse(socket, 400, "The subprotocol is mqtt or mqttv3.1.");
      return;
    }
    const address = request.socket.remoteAddress ?? "";
    const port = request.socket.remotePort ?? 0;
    upgrader.handleUpgrade(request, socket, head, (ws) => accept(bytesOf(ws), address, port));
  });
  server.on("request", (_, response) => {
    response.writeHead(426, { upgrade: "websocket", connection: "close" });
    response.end("This port speaks MQTT over WebSocket.\n");
  });
  return server;
}

function offersMqtt(request: IncomingMessage): boolean {
  const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",");
  return offered.some((one) => (SUBPROTOCOLS as readonly string[]).includes(one.trim()));
}

function bytesOf(ws: WebSocket): Duplex {
  const stream = createWebSocketStream(ws);
  ws.on("error", () => undefined); // The stream hears the first one; another would be nobody's.
  // Before the stream's own listener, which would take the text as bytes.
  ws.prependListener("message", (_, isBinary) => {
    if (!isBinary) stream.destroy(new Error("A text frame came.")); // [MQTT-6.0.0-1]
  });
  return stream;
}

function refuse(socket: Duplex, status: number, message: string): void {
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    "Connection: close",
    "Content-Type: text/plain",
    `Content-Length: ${Buffer.byteLength(message)}`,
  ];
  socket.once("finish", () => socket.destroy());
  socket.end(`${head.join("\r\n")}\r\n\r\n${message}`);
}
