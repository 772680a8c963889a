import type { Clock } from "../core/clock.ts";
import { isHoldfastError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { OutgoingMessage, Receipt } from "../core/message.ts";
import { isReservedTopic, reservedTopics } from "../core/reserved-topics.ts";
import type {
  DeviceInfo,
  Payload,
  PluginAlarms,
  PluginContext,
  Published,
  PublishOptions,
} from "../sdk/sdk.ts";
import { PluginError } from "../sdk/sdk.ts";

/** What the host needs of an outbox. */
export interface HostOutgoing {
  put(message: OutgoingMessage): Promise<Receipt>;
}

export interface ContextOptions {
  readonly plugin: string;
  readonly config: unknown;
  /** The parent topic of all that the device sends. */
  readonly up: string;
  readonly device: DeviceInfo;
}

export interface ContextParts {
  readonly clock: Clock;
  readonly log: Logger;
  readonly outgoing?: HostOutgoing;
  readonly alarms?: PluginAlarms;
}

const text = new TextEncoder();

export function makeContext(
  options: ContextOptions,
  parts: ContextParts,
  signal: AbortSignal,
): PluginContext {
  const { clock, log } = parts;
  return {
    config: options.config,
    log,
    signal,
    clock: {
      now: () => clock.wallMs(),
      monotonicMs: () => clock.monotonicMs(),
      sleep: (ms, until = signal) => clock.sleep(ms, until),
    },
    device: options.device,
    alarm: {
      raise: (name, about) => parts.alarms?.raise(`${options.plugin}.${name}`, about),
      clear: (name) => parts.alarms?.clear(`${options.plugin}.${name}`),
    },
    publish: (topic, payload, published) => publish(options, parts, { topic, payload, published }),
  };
}

async function publish(
  options: ContextOptions,
  parts: ContextParts,
  message: { topic: string; payload: Payload; published: PublishOptions | undefined },
): Promise<Published> {
  const { topic, payload, published } = message;
  if (typeof topic !== "string" || topic === "" || isReservedTopic(topic)) {
    throw new PluginError(
      "topic_invalid",
      `A plugin cannot publish to "${String(topic)}": below ${options.up}, ${reservedTopics.join(", ")} are the agent's own.`,
    );
  }
  if (!parts.outgoing) throw new PluginError("stopped", "There is no outbox to publish to.");
  const { lane = "telemetry", key, ttlMs } = published ?? {};
  try {
    const receipt = await parts.outgoing.put({
      topic: `${options.up}/${topic}`,
      payload: encode(payload),
      lane,
      ...(key !== undefined && { key }),
      ...(ttlMs !== undefined && { ttlMs }),
    });
    return { id: receipt.id, safe: receipt.safe };
  } catch (cause) {
    throw asPluginError(cause);
  }
}

function encode(payload: Payload): Uint8Array {
  if (payload instanceof Uint8Array) return payload.slice(); // The plugin may go on writing to its.
  if (typeof payload === "string") return text.encode(payload);
  try {
    return text.encode(JSON.stringify(payload));
  } catch (cause) {
    throw withCause(new PluginError("message_invalid", "The payload is not JSON."), cause);
  }
}

/** A plugin sees one kind of error, with the codes of the agent's own table. */
function asPluginError(cause: unknown): unknown {
  if (!isHoldfastError(cause)) return cause;
  return withCause(new PluginError(cause.code, cause.message, cause.details), cause);
}

function withCause(error: PluginError, cause: unknown): PluginError {
  error.cause = cause;
  return error;
}
