/** A session against a scripted broker, in real time with short waits. */
import { onTestFinished } from "vitest";
import {
  type Authenticator,
  Session,
  type SessionOptions,
} from "../../../agent/connection/connection.ts";
import type { Clock } from "../../../agent/core/clock.ts";
import { type Logger, silentLog } from "../../../agent/core/log.ts";
import type { Batch, IncomingMessage } from "../../../agent/core/message.ts";
import { encodePublish, writePacketId } from "../../../agent/core/publish-packet.ts";
import { SystemClock } from "../../../agent/core/system-clock.ts";
import { SystemRandom } from "../../../agent/core/system-random.ts";
import { type Script, ScriptedBroker } from "../../support/scripted-broker.ts";
import { waitFor } from "../../support/wait-for.ts";

export const never = new AbortController().signal;
export const EPOCH = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

export async function scripted(script?: Script): Promise<ScriptedBroker> {
  const broker = await ScriptedBroker.start(script);
  onTestFinished(() => broker.stop());
  return broker;
}

export function makeSession(
  endpoints: string | readonly string[],
  options: Partial<SessionOptions> = {},
  deps: {
    readonly clock?: Clock;
    readonly authenticator?: Authenticator;
    readonly log?: Logger;
  } = {},
): Session {
  const session = new Session(
    {
      clientId: "GID_test@@@dev-1",
      endpoints: typeof endpoints === "string" ? [endpoints] : endpoints,
      profile: "lmq",
      keepaliveS: 90,
      cleanSession: false,
      connectTimeoutMs: 5_000,
      ackTimeoutMs: 5_000,
      reconnect: { minMs: 5, maxMs: 20, refusedMinMs: 5, takeoverMinMs: 5 },
      subscriptions: [],
      inboundBound: { messages: 100_000, bytes: 64_000_000 },
      maxPayloadBytes: 65_536,
      ...options,
    },
    {
      clock: deps.clock ?? new SystemClock(),
      random: new SystemRandom(),
      log: deps.log ?? silentLog,
      authenticator: deps.authenticator ?? { credentials: async () => ({}) },
    },
  );
  onTestFinished(() => session.stop(AbortSignal.timeout(2_000)));
  return session;
}

export async function online(session: Session): Promise<void> {
  await session.start(never);
  await waitFor(() => session.state === "online", { what: "the session to be online" });
}

/** Messages `from` to `to`, with their numbers as payload and as packet ids. */
export function batchOf(from: number, to: number): Batch {
  const packets: Uint8Array[] = [];
  const offsets = [0];
  const packetIdAt: number[] = [];
  for (let seq = from; seq <= to; seq++) {
    const { bytes, packetIdAt: at } = encodePublish("up/x", Buffer.from(String(seq)));
    writePacketId(bytes, at, ((seq - 1) % 60_000) + 1);
    const start = offsets.at(-1) ?? 0;
    packetIdAt.push(start + at);
    offsets.push(start + bytes.length);
    packets.push(bytes);
  }
  const count = to - from + 1;
  const bytes = Buffer.concat(packets);
  return { bytes, count, offsets, packetIdAt, ids: [{ epoch: EPOCH, from, to }] };
}

/** Collects what comes in; the list grows while the session lives. */
export function collect(session: Session): IncomingMessage[] {
  const messages: IncomingMessage[] = [];
  void (async () => {
    for await (const message of session.messages(never)) messages.push(message);
  })();
  return messages;
}

export function texts(messages: readonly IncomingMessage[]): string[] {
  return messages.map(({ payload }) => Buffer.from(payload).toString());
}
