/**
 * What the operator needs of a connection; the agent's Session is one. It connects and reconnects
 * at its own pace between `start` and `stop`.
 */
import type { IncomingMessage } from "../../agent/core/message.ts";

export interface Link {
  readonly state: "idle" | "connecting" | "online" | "backing-off" | "refused" | "stopped";
  info(): LinkInfo;
  /** The listener only looks at `state` and `info`; the result ends it. */
  onChange(listener: () => void): () => void;
  start(signal: AbortSignal): Promise<void>;
  stop(deadline: AbortSignal): Promise<void>;
  /** Resolves when online or aborted, never rejects. */
  connected(signal: AbortSignal): Promise<unknown>;
  /** Resolves on PUBACK; throws `not_connected`, `ack_timeout`, `connection_lost`. */
  publish(message: LinkMessage, signal: AbortSignal): Promise<void>;
  messages(signal: AbortSignal): AsyncIterable<IncomingMessage>;
}

export interface LinkInfo {
  readonly endpoint?: string | undefined;
  readonly lastError?: { readonly code: string; readonly message: string } | undefined;
}

export interface LinkMessage {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: 1;
}
