import { connect as connectTcp, isIP, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import { HoldfastError, isHoldfastError } from "../core/errors.ts";
import type { TlsOptions } from "./types.ts";

/** How bytes reach the service. WebSocket and proxies are to become further schemes here. */
export interface Endpoint {
  readonly scheme: "mqtt" | "mqtts";
  readonly host: string;
  readonly port: number;
  /** For people: no user name, no password. */
  readonly text: string;
}

/** lmq-protocol 2. */
const DEFAULT_PORTS = { mqtt: 1883, mqtts: 8883 } as const;
/** The system's own probes: they find a dead peer even while the socket is paused. */
const TCP_KEEPALIVE_MS = 60_000;

/** Throws `config_invalid`. */
export function parseEndpoint(text: string): Endpoint {
  const url = URL.parse(text);
  const scheme = url?.protocol === "mqtt:" ? "mqtt" : url?.protocol === "mqtts:" ? "mqtts" : "";
  if (!url || scheme === "" || url.hostname === "") {
    throw new HoldfastError(
      "config_invalid",
      "An endpoint must be mqtt://host:port or mqtts://host:port.",
    );
  }
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const port = url.port === "" ? DEFAULT_PORTS[scheme] : Number(url.port);
  return { scheme, host, port, text: `${scheme}://${url.hostname}:${port}` };
}

/**
 * A connected stream, the TLS handshake included. Throws `connect_failed`, `tls_failed`, or
 * `cancelled` when `signal` aborts; nothing is left open then.
 */
export async function dial(
  endpoint: Endpoint,
  tls: TlsOptions | undefined,
  signal: AbortSignal,
): Promise<Duplex> {
  const tcp = connectTcp({ host: endpoint.host, port: endpoint.port, noDelay: true });
  tcp.setKeepAlive(true, TCP_KEEPALIVE_MS);
  await ready(tcp, "connect", signal, (cause) => connectFailed(endpoint, cause));
  if (endpoint.scheme === "mqtt") return tcp;
  const serverName = tls?.serverName || (isIP(endpoint.host) ? "" : endpoint.host);
  const secure = connectTls({
    socket: tcp,
    host: endpoint.host,
    servername: serverName,
    rejectUnauthorized: true,
    minVersion: "TLSv1.2",
    ...(tls?.ca === undefined ? {} : { ca: tls.ca }),
    ...(tls?.cert === undefined ? {} : { cert: tls.cert }),
    ...(tls?.key === undefined ? {} : { key: tls.key }),
  });
  await ready(secure, "secureConnect", signal, (cause) => tlsFailed(endpoint, cause));
  return secure;
}

function ready(
  socket: Socket,
  event: "connect" | "secureConnect",
  signal: AbortSignal,
  failed: (cause: unknown) => HoldfastError,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: HoldfastError): void => {
      socket.off(event, onReady).off("close", onClose);
      signal.removeEventListener("abort", onAbort);
      if (error === undefined) resolve();
      else {
        socket.destroy();
        reject(error);
      }
    };
    const onReady = (): void => settle();
    const onClose = (): void => settle(failed(new Error("The peer closed the connection.")));
    const onAbort = (): void => settle(new HoldfastError("cancelled", "The attempt was given up."));
    // Stays: an error after the end of an attempt has nobody to tell, and must not be thrown.
    socket.on("error", (cause) => settle(isHoldfastError(cause) ? cause : failed(cause)));
    socket.on(event, onReady).on("close", onClose);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}

function connectFailed(endpoint: Endpoint, cause: unknown): HoldfastError {
  const why = systemCode(cause);
  return new HoldfastError("connect_failed", `${endpoint.text} cannot be reached (${why}).`, {
    details: { endpoint: endpoint.text, cause: why },
    cause,
  });
}

function tlsFailed(endpoint: Endpoint, cause: unknown): HoldfastError {
  const why = systemCode(cause);
  return new HoldfastError("tls_failed", `${endpoint.text} failed the TLS handshake (${why}).`, {
    details: { endpoint: endpoint.text, cause: why },
    cause,
  });
}

function systemCode(cause: unknown): string {
  if (cause instanceof Error && "code" in cause && typeof cause.code === "string") {
    return cause.code;
  }
  return cause instanceof Error ? cause.message : String(cause);
}
