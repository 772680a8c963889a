import { withDeadline } from "../core/clock.ts";
import { HoldfastError, isHoldfastError } from "../core/errors.ts";
import type { Close } from "../core/message.ts";
import { invalidNoticeCode } from "../protocol/notices.ts";
import { Forwarding } from "./forwarding.ts";
import type { InboundConnection, Inbox } from "./inbound.ts";
import { keepAlive } from "./keepalive.ts";
import { closeError, MqttLink } from "./mqtt-link.ts";
import { dial, parseEndpoint } from "./transport.ts";
import type { SessionDeps, SessionOptions } from "./types.ts";

/** One connection with all that lives and dies with it. */
export interface Connection {
  readonly link: MqttLink;
  readonly forwarding: Forwarding;
  readonly inbound: InboundConnection;
  readonly sessionPresent: boolean;
  /** Subscriptions that the service refused. */
  readonly refused: readonly HoldfastError[];
}

type AttemptDeps = SessionDeps & { readonly inbox: Inbox };

/**
 * One attempt: credentials, transport, CONNECT, subscriptions, all within the connect timeout.
 * Throws what failed, `connect_timeout`, or `cancelled`; nothing is left open then.
 */
export async function attempt(
  endpointText: string,
  options: SessionOptions,
  deps: AttemptDeps,
  signal: AbortSignal,
): Promise<Connection> {
  const opened: { link?: MqttLink } = {};
  try {
    const result = await withDeadline(deps.clock, options.connectTimeoutMs, signal, (both) =>
      open(endpointText, options, deps, opened, both),
    );
    if (!result.timedOut) return result.value;
    throw new HoldfastError(
      "connect_timeout",
      `The service did not answer the connect within ${options.connectTimeoutMs} ms.`,
    );
  } catch (error) {
    // The deadline may fall between the end of `open` and this function's hearing of it.
    opened.link?.abort({ reason: "stopped" });
    throw error;
  }
}

async function open(
  endpointText: string,
  options: SessionOptions,
  deps: AttemptDeps,
  opened: { link?: MqttLink },
  signal: AbortSignal,
): Promise<Connection> {
  const endpoint = parseEndpoint(endpointText);
  // Before the transport: a service gives a silent connection a few seconds only.
  const credentials = await orCancelled(deps.authenticator.credentials(signal), signal);
  const socket = await dial(endpoint, options.tls, signal);
  if (signal.aborted) {
    socket.destroy();
    throw new HoldfastError("cancelled");
  }
  const parts: { forwarding?: Forwarding; inbound?: InboundConnection } = {};
  const link = new MqttLink(options, {
    socket,
    clock: deps.clock,
    events: {
      accepted: (present) => present || deps.inbox.forgetSession(),
      acknowledged: (packetIds) => parts.forwarding?.acknowledged(packetIds),
      published: (arrival) => {
        const { topic, payload } = arrival;
        const notice = options.profile === "lmq" ? invalidNoticeCode(topic, payload) : undefined;
        if (notice !== undefined) link.explain(notice);
        parts.inbound?.arrived(arrival);
      },
      released: (packetId) => parts.inbound?.released(packetId),
    },
  });
  opened.link = link;
  const forwarding = new Forwarding({ link, clock: deps.clock });
  const inbound = deps.inbox.attach(link);
  Object.assign(parts, { forwarding, inbound });
  const abort = (): void => link.abort({ reason: "stopped" });
  signal.addEventListener("abort", abort, { once: true });
  try {
    link.onClose(() => inbound.ended());
    const { sessionPresent } = await link.connect(credentials);
    const refused = await subscribe(link, options);
    return { link, forwarding, inbound, sessionPresent, refused };
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** A refused filter does not keep the session offline: what goes out still can. */
async function subscribe(link: MqttLink, options: SessionOptions): Promise<HoldfastError[]> {
  const results = await Promise.allSettled(
    options.subscriptions.map((subscription) => link.subscribe(subscription)),
  );
  if (link.close) throw closeError(link.close);
  return results.flatMap((result) =>
    result.status === "rejected" && isHoldfastError(result.reason) ? [result.reason] : [],
  );
}

/** Keeps a connection until it ends; says how. */
export async function keep(
  { link, forwarding }: Connection,
  options: SessionOptions,
  deps: Pick<SessionDeps, "clock">,
): Promise<Close> {
  const ended = new AbortController();
  link.onClose(() => ended.abort());
  await keepAlive(
    options,
    { link, clock: deps.clock, oldestSentAtMs: () => forwarding.oldestSentAtMs },
    ended.signal,
  );
  return link.closed;
}

/** The promise, or `cancelled` as soon as `signal` aborts: for work that may not listen to it. */
export async function orCancelled<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const cancel = (): void => reject(new HoldfastError("cancelled"));
  signal.addEventListener("abort", cancel, { once: true });
  if (signal.aborted) cancel();
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", cancel);
  }
}
